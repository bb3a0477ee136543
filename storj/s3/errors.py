"""Errors of S3: code, HTTP status, and the text that comes with it."""

from __future__ import annotations

from typing import Final

from storj.exception import StorjError

#: Code -> HTTP status and text, as Amazon documents them.
_ERRORS: Final[dict[str, tuple[int, str]]] = {
    'AccessControlListNotSupported': (400, "All objects are their owner's alone."),
    'AccessDenied': (403, 'Access Denied.'),
    'AuthorizationHeaderMalformed': (400, 'The authorization header is malformed.'),
    'AuthorizationQueryParametersError': (403, 'The query of a presigned request is malformed.'),
    'AccessForbidden': (403, 'CORS is not enabled for this bucket.'),
    'BadDigest': (400, 'The digest in the request is not that of what was received.'),
    'BadRequest': (400, 'Origin request header needed.'),
    'BucketNotEmpty': (409, 'The bucket is not empty.'),
    'EntityTooLarge': (400, 'The object is larger than an object may be.'),
    'EntityTooSmall': (400, 'A part that is not the last one has less than 5 MiB.'),
    'IncompleteBody': (400, 'There are fewer bytes than the request states.'),
    'InternalError': (500, 'Something failed here; try again.'),
    'InvalidAccessKeyId': (403, 'There is no such access key.'),
    'InvalidArgument': (400, 'An argument is invalid.'),
    'InvalidBucketName': (400, 'The bucket name is invalid.'),
    'InvalidDigest': (400, 'The Content-MD5 is no MD5.'),
    'InvalidPart': (400, 'A part was not uploaded, or has another ETag.'),
    'InvalidPartOrder': (400, 'The parts are not in ascending order.'),
    'InvalidRange': (416, 'No byte of the object is in the range.'),
    'InvalidRequest': (400, 'The request is invalid.'),
    'InvalidStorageClass': (400, 'There is only the storage class STANDARD.'),
    'InvalidTag': (400, 'A tag is invalid.'),
    'InvalidURI': (400, 'The address cannot be parsed.'),
    'KeyTooLongError': (400, 'The key is longer than 1,024 bytes.'),
    'MalformedXML': (400, 'The XML is not well formed, or not what is expected here.'),
    'MetadataTooLarge': (400, 'The metadata has more than 2,048 bytes.'),
    'MethodNotAllowed': (405, 'The method is not allowed for this resource.'),
    'MissingContentLength': (411, 'The request needs a Content-Length.'),
    'NoSuchBucket': (404, 'There is no such bucket.'),
    'NoSuchKey': (404, 'There is no such key.'),
    'NoSuchUpload': (404, 'There is no such multipart upload; it may be completed or aborted.'),
    'NotImplemented': (501, 'This gateway does not implement that.'),
    'NotModified': (304, ''),
    'PreconditionFailed': (412, 'A condition of the request does not hold.'),
    'RequestTimeout': (400, 'The client sent nothing of the body for too long.'),
    'RequestTimeTooSkewed': (403, 'The clocks of client and gateway are too far apart.'),
    'ServiceUnavailable': (503, 'The network does not answer; try again.'),
    'SignatureDoesNotMatch': (403, 'The signature is not that of the secret key.'),
    'SlowDown': (503, 'Too many requests; try again later.'),
    'XAmzContentSHA256Mismatch': (400, 'The SHA-256 in the request is not that of the body.'),
}


class S3Error(StorjError):
    """What a client of the gateway is answered.

    Args:
        code (str): of S3, such as ``NoSuchKey``.
        message (str | None): instead of the usual text.
        **fields: further elements of the answer.
    """

    def __init__(self, code: str, message: str | None = None, **fields: str) -> None:
        self.code = code
        self.status, usual = _ERRORS[code]
        self.message = usual if message is None else message
        self.fields = fields
        super().__init__(self.message)
