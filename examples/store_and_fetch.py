"""Store a file and fetch it back: the account comes from the environment or ~/.storj/storj.ini."""

import sys

import storj

path = sys.argv[1] if len(sys.argv) > 1 else __file__
client = storj.get_client()
bucket = client.bucket_create('examples')
file = client.file_upload(bucket.id, path)
data = client.file_download(bucket.id, file.id).read()
print(f'{file.name}: {len(data)} bytes came back')
