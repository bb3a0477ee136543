#!/bin/sh
# usage: setup.sh HOST [PUBLIC_URL] > .env
#
# Prints the settings of compose.yaml, with new passwords and keys: run it once, and keep its output as
# safe as the data. HOST is the name or address by which clients, bridges and farmers reach this machine.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -t 1 ]; then
    echo 'usage: setup.sh HOST [PUBLIC_URL] > .env' >&2
    exit 2
fi
umask 077
# The shell has opened the file with a mask of its own.
if [ -f /dev/stdout ]; then chmod 600 /dev/stdout; fi

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

cat << SETTINGS
STORJ_HOST=$1
STORJ_PUBLIC_URL=${2:-http://$1:6382}
POSTGRES_PASSWORD=$(random)
S3_SECRET_KEY=$(random)
FARMER_5_KEY=$(random)
FARMER_6_KEY=$(random)
SETTINGS
