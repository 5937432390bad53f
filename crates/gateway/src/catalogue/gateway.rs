//! 5xxx: the gateway's own.

use super::Effect::{Nothing, Unknown};
use super::{Entry, of};

macro_rules! numbers {
    ($($name:ident = $number:literal, $about:literal;)*) => {
        $(#[doc = $about] pub const $name: u16 = $number;)*
    };
}

numbers! {
    UNAUTHENTICATED = 5001, "No good token.";
    TOKEN_EXPIRED = 5002, "The token's time is over.";
    FORBIDDEN = 5003, "The role may not.";
    OUT_OF_SCOPE = 5004, "The token may not.";
    NOT_FOUND = 5005, "No such thing.";
    METHOD_NOT_ALLOWED = 5006, "Another method is needed.";
    BODY_TOO_LARGE = 5007, "More bytes than are taken.";
    UNSUPPORTED_MEDIA_TYPE = 5008, "Another media type is needed.";
    MALFORMED_JSON = 5009, "Not JSON.";
    INVALID_FIELD = 5010, "A field's value is wrong.";
    UNKNOWN_FIELD = 5011, "A field we do not know.";
    MISSING_FIELD = 5012, "A field is missing.";
    INVALID_QUERY = 5013, "A query parameter is wrong.";
    ID_NEEDED = 5014, "A transfer needs an id or a key.";
    INVALID_KEY = 5015, "The idempotency key is wrong.";
    CURSOR_INVALID = 5016, "The cursor is not one of ours.";
    BATCH_TOO_LARGE = 5017, "More transfers than a batch takes.";
    PACKED_MALFORMED = 5018, "A packed body breaks the layout.";
    BODY_CUT_SHORT = 5019, "The body ended early.";
    REQUEST_TIMEOUT = 5020, "The body came too slowly.";
    TOKEN_INVALID = 5021, "A new token cannot be so.";
    BUSY = 5030, "Full.";
    QUOTA_EXCEEDED = 5031, "The principal asks too much.";
    BRANCH_UNAVAILABLE = 5032, "The branch is sick or opening.";
    OUTCOME_UNKNOWN = 5033, "Unknown, retry with the same id.";
    DEADLINE_PASSED = 5034, "The branch did not get to it in time.";
    TOO_MANY_CONNECTIONS = 5035, "The connection cap is met.";
    TOO_MANY_STREAMS = 5036, "The cap of event streams is met.";
    SHUTTING_DOWN = 5037, "The bank is stopping.";
    NO_OPEN_BRANCH = 5038, "No branch takes customers.";
    HISTORY_UNAVAILABLE = 5039, "The history is not that far yet.";
    BRANCH_NOT_FOUND = 5040, "No such branch.";
    PERSONAL_DATA_UNAVAILABLE = 5041, "The key file cannot be reached.";
    DIRECTORY_UNAVAILABLE = 5042, "The directory does not answer.";
    DIRECTORY_REBUILDING = 5043, "The directory is being rebuilt.";
    DOCUMENT_RESERVED = 5044, "Somebody is about to use the document.";
    ARCHIVED = 5050, "It is in the archive, which is away.";
    NOT_ARCHIVED = 5051, "Nothing could be archived.";
    JWT_MALFORMED = 5060, "Not a JWT that we read.";
    JWT_ALGORITHM_REFUSED = 5061, "Signed in a way that is not taken.";
    JWT_KEY_UNKNOWN = 5062, "No key of the issuer's has this id.";
    JWT_SIGNATURE_WRONG = 5063, "The signature does not hold.";
    JWT_ISSUER_WRONG = 5064, "Another issuer.";
    JWT_AUDIENCE_WRONG = 5065, "Another audience.";
    JWT_NOT_YET_VALID = 5066, "Its time has not begun.";
    JWT_CLAIM_REFUSED = 5067, "A claim is missing or wrong.";
    MALFORMED_XML = 5070, "Not XML.";
    INTERNAL = 5099, "Our fault.";
}

pub(super) const ENTRIES: &[Entry] = &[
    of((
        UNAUTHENTICATED,
        "unauthenticated",
        401,
        "Authentication needed",
        "需要身份认证",
        Nothing,
        "The request has no `Authorization: Bearer <token>` header, or the token is not one of this bank's, was revoked, or is bound to a client certificate that was not shown.",
        "Send a token. `skerry token create` makes one; `skerry up` wrote the first operator's token to `operator.token` in the data folder.",
    )),
    of((
        TOKEN_EXPIRED,
        "token_expired",
        401,
        "The token has expired",
        "令牌已过期",
        Nothing,
        "The token was made with a lifetime, which is over.",
        "Make a new one with `skerry token create`, or fetch a fresh one from the identity provider that made it.",
    )),
    of((
        FORBIDDEN,
        "forbidden",
        403,
        "The role may not do this",
        "该角色无权执行此操作",
        Nothing,
        "Each role has a fixed set of operations; this one is not in the token's role.",
        "Use a token with another role. docs/api.md lists what each may do.",
    )),
    of((
        OUT_OF_SCOPE,
        "out_of_scope",
        403,
        "Outside the token's scope",
        "超出令牌的授权范围",
        Nothing,
        "The token is limited to some branches, operations or one customer, and this lies outside.",
        "Use a token with a wider scope; `skerry token list` shows the scopes.",
    )),
    of((
        NOT_FOUND,
        "not_found",
        404,
        "Not found",
        "未找到",
        Nothing,
        "Nothing lies at this path, or what it names does not exist.",
        "Check the path against /docs and the number against its source.",
    )),
    of((
        METHOD_NOT_ALLOWED,
        "method_not_allowed",
        405,
        "Method not allowed",
        "不支持该请求方法",
        Nothing,
        "The path exists, with another method.",
        "See /docs for the methods of this path.",
    )),
    of((
        BODY_TOO_LARGE,
        "body_too_large",
        413,
        "The body is too large",
        "请求体过大",
        Nothing,
        "The body has more bytes than this call takes. The bound is in the detail and in /metrics.",
        "Send smaller batches; `server.body_bytes_max` in skerry.toml sets the bound.",
    )),
    of((
        UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        415,
        "Unsupported media type",
        "不支持的媒体类型",
        Nothing,
        "The `Content-Type` is not one that this call reads.",
        "Send `application/json`, or for packed batches `application/vnd.skerry.transfers`.",
    )),
    of((
        MALFORMED_JSON,
        "malformed_json",
        400,
        "The body is not JSON",
        "请求体不是有效的 JSON",
        Nothing,
        "The body cannot be read as JSON; the detail says where it goes wrong.",
        "Mend the body; `jq . body.json` shows the place.",
    )),
    of((
        INVALID_FIELD,
        "invalid_field",
        400,
        "A field has a wrong value",
        "字段取值无效",
        Nothing,
        "The field named in `field` has a value of another type or form than the call takes. Money is an object whose amount is a string: a JSON number would lose digits.",
        "Correct the field; /docs shows its form with an example.",
    )),
    of((
        UNKNOWN_FIELD,
        "unknown_field",
        400,
        "An unknown field",
        "未知字段",
        Nothing,
        "The body has a field that this call does not know. Misspelt fields are refused and never ignored, because an ignored limit is no limit.",
        "Correct or remove the field named in `field`.",
    )),
    of((
        MISSING_FIELD,
        "missing_field",
        400,
        "A field is missing",
        "缺少字段",
        Nothing,
        "The body lacks a field that this call needs.",
        "Add the field named in `field`.",
    )),
    of((
        INVALID_QUERY,
        "invalid_query",
        400,
        "A query parameter is wrong",
        "查询参数无效",
        Nothing,
        "A parameter after the `?` is unknown, doubled or has a wrong value.",
        "Correct the parameter named in `field`.",
    )),
    of((
        ID_NEEDED,
        "id_needed",
        400,
        "An id or a key is needed",
        "缺少交易编号或幂等键",
        Nothing,
        "A transfer must be safe to send twice, so it needs an `id` (a UUIDv7 of yours) or an `Idempotency-Key` header from which the bank derives one.",
        "Add either, and keep it for retries.",
    )),
    of((
        INVALID_KEY,
        "invalid_idempotency_key",
        400,
        "The idempotency key is wrong",
        "幂等键无效",
        Nothing,
        "An `Idempotency-Key` has 1 to 255 visible ASCII characters and is given once.",
        "Use a UUID.",
    )),
    of((
        CURSOR_INVALID,
        "cursor_invalid",
        400,
        "The cursor is not valid",
        "游标无效",
        Nothing,
        "The `cursor` or `after` is not one that an earlier page gave.",
        "Begin without one, then pass `next` on as it came.",
    )),
    of((
        BATCH_TOO_LARGE,
        "batch_too_large",
        413,
        "Too many transfers in a batch",
        "批次中的交易过多",
        Nothing,
        "A batch holds at most the number of transfers named in the detail.",
        "Send several batches; keep linked chains whole.",
    )),
    of((
        PACKED_MALFORMED,
        "packed_malformed",
        400,
        "The packed body breaks its layout",
        "打包数据格式错误",
        Nothing,
        "The body is not whole records of 96 bytes, or a record has a value outside of its layout. Nothing of the batch was tried.",
        "Compare with docs/api.md, section Packed batches; the detail names record and field.",
    )),
    of((
        BODY_CUT_SHORT,
        "body_cut_short",
        400,
        "The body was cut short",
        "请求体不完整",
        Nothing,
        "The connection ended before the announced body was there, or its framing is broken.",
        "Send the request again.",
    )),
    of((
        REQUEST_TIMEOUT,
        "request_timeout",
        408,
        "The request came too slowly",
        "请求超时",
        Nothing,
        "The body did not arrive in the time allowed.",
        "Send it again; `server.body_timeout_ms` in skerry.toml sets the time.",
    )),
    of((
        TOKEN_INVALID,
        "token_invalid",
        400,
        "The token cannot be made so",
        "无法创建该令牌",
        Nothing,
        "A field of the new token is wrong; the detail says which and why.",
        "Correct it.",
    )),
    of((
        BUSY,
        "busy",
        503,
        "Busy",
        "系统繁忙",
        Nothing,
        "The branch's queue, or the gateway's room for bodies, is full. Nothing was taken.",
        "Send the same request again after `Retry-After`. If it lasts, `skerry status` shows which branch is full and why.",
    )),
    of((
        QUOTA_EXCEEDED,
        "quota_exceeded",
        429,
        "Quota exceeded",
        "超出配额",
        Nothing,
        "This principal has as much in flight, or asks as fast, as its quota allows.",
        "Send the same request again after `Retry-After`; `[quota]` in skerry.toml sets the bounds.",
    )),
    of((
        BRANCH_UNAVAILABLE,
        "branch_unavailable",
        503,
        "The branch is not available",
        "分行暂不可用",
        Nothing,
        "The branch is opening, closing, or stopped itself because its journal failed or is damaged. The other branches go on.",
        "`skerry status` names the cause; `skerry branch reopen NUMBER` opens it again once that is mended.",
    )),
    of((
        OUTCOME_UNKNOWN,
        "outcome_unknown",
        503,
        "The outcome is not known",
        "结果未知",
        Unknown,
        "The branch took the request, and could not tell whether it became durable: a sync failed or the reply did not come in time.",
        "Send the very same request again with the same id or key: it answers what happened, or does it now.",
    )),
    of((
        DEADLINE_PASSED,
        "deadline_passed",
        503,
        "Not done in time",
        "未在时限内处理",
        Nothing,
        "The request waited in the branch's queue until its deadline passed and was then dropped.",
        "Send it again; under lasting load add branches or lower the rate.",
    )),
    of((
        TOO_MANY_CONNECTIONS,
        "too_many_connections",
        503,
        "Too many connections",
        "连接过多",
        Nothing,
        "The gateway holds as many connections as it may.",
        "Close idle ones and reuse the rest; `server.connections_max` in skerry.toml sets the cap.",
    )),
    of((
        TOO_MANY_STREAMS,
        "too_many_streams",
        503,
        "Too many event streams",
        "事件流过多",
        Nothing,
        "As many event streams are open as may be.",
        "Read `GET /v1/events?after=` page by page instead.",
    )),
    of((
        SHUTTING_DOWN,
        "shutting_down",
        503,
        "The bank is stopping",
        "系统正在停止",
        Nothing,
        "The bank drains: what runs is finished, nothing new is taken.",
        "Try again after the restart.",
    )),
    of((
        NO_OPEN_BRANCH,
        "no_open_branch",
        503,
        "No branch takes customers",
        "没有可接纳客户的分行",
        Nothing,
        "Every branch is full, closed to newcomers or not available.",
        "`skerry branch list` shows the room; open another branch.",
    )),
    of((
        HISTORY_UNAVAILABLE,
        "history_unavailable",
        503,
        "The history is not ready",
        "历史数据尚未就绪",
        Nothing,
        "The query files are being rebuilt or are behind the journal, or could not be read.",
        "Try again after `Retry-After`; if it lasts, see `skerry status`.",
    )),
    of((
        BRANCH_NOT_FOUND,
        "branch_not_found",
        404,
        "No such branch",
        "分行不存在",
        Nothing,
        "The number names a branch that this bank does not have.",
        "Check the number; `skerry branch list` shows all.",
    )),
    of((
        PERSONAL_DATA_UNAVAILABLE,
        "personal_data_unavailable",
        503,
        "Personal data cannot be reached",
        "个人数据暂不可用",
        Nothing,
        "The customers' keys, in the data folder or in the branch's store, could not be read or written.",
        "The log names the file or the store; see to it, then try again. A store that was merely away is found again by itself.",
    )),
    of((
        DIRECTORY_UNAVAILABLE,
        "directory_unavailable",
        503,
        "The directory does not answer",
        "目录服务无响应",
        Nothing,
        "Who lives in which branch is kept in a directory, and it could not be asked: its files or its database failed, or it is starting. Payments, balances and statements go on; customers cannot be opened and documents not be changed.",
        "Send the same request again after the time in `Retry-After`. If it stays so, look at the log and at the disk of the data folder.",
    )),
    of((
        DIRECTORY_REBUILDING,
        "directory_rebuilding",
        503,
        "The directory is being rebuilt",
        "目录正在重建",
        Nothing,
        "The directory is taking all customers in again from the branches: after a first start, after its files were lost or damaged, or because an operator said so. Until that has ended nobody can tell whose a document is. It waits for every branch to be open.",
        "Send the same request again after the time in `Retry-After`. `skerry status` shows a branch that is not open.",
    )),
    of((
        DOCUMENT_RESERVED,
        "document_reserved",
        503,
        "Another request is about to use this document",
        "该证件正被另一请求占用",
        Nothing,
        "A customer is being opened with this document, or it is being given to one, and what becomes of that is not decided yet.",
        "Send the same request again after the time in `Retry-After`: by then it is one or the other.",
    )),
    of((
        ARCHIVED,
        "archived",
        503,
        "Archived, and the archive is away",
        "数据已归档，归档目录暂不可用",
        Nothing,
        "What was asked for lies in segments that were moved to the cold folder, and that cannot be read now. The detail names folder and segment. Newer pages and all new payments go on; a retry, a reversal or a posting of what is archived is refused with its whole request until it can be told what became of it the first time.",
        "Bring the cold folder back (mount its volume, mend its path or rights) and ask again; nothing needs to be restarted. Without one configured, set `storage.cold` and restart.",
    )),
    of((
        NOT_ARCHIVED,
        "not_archived",
        409,
        "Archiving went no further",
        "归档未能继续",
        Nothing,
        "Old segments of a journal could not be moved to the cold folder: none is configured or it cannot be reached, another journal's segments are in it, or no snapshot stands in for them yet. The detail says which. What was moved stays moved, and nothing is lost.",
        "Mend what the detail names and send it again: what is done is not done twice.",
    )),
    of((
        JWT_MALFORMED,
        "jwt_malformed",
        401,
        "The token is not a JWT that can be read",
        "无法解析该 JWT 令牌",
        Nothing,
        "The bearer token does not begin with `sk_`, so it is taken for a JWT of the configured identity provider; the detail says where it breaks the form (RFC 7515, RFC 7519), or that it is longer than 8 KiB.",
        "Send the access token as the identity provider gave it, whole and unchanged.",
    )),
    of((
        JWT_ALGORITHM_REFUSED,
        "jwt_algorithm_refused",
        401,
        "The token is signed in a way that is not taken",
        "不接受该令牌的签名算法",
        Nothing,
        "The `alg` of the token's header is not in `oidc.algorithms`. `none` and HMAC (`HS256` and its like) are never taken.",
        "Let the identity provider sign with RS256, ES256 or EdDSA, and list it in `oidc.algorithms` of skerry.toml.",
    )),
    of((
        JWT_KEY_UNKNOWN,
        "jwt_key_unknown",
        401,
        "The token's key is not known",
        "未知的令牌签名密钥",
        Nothing,
        "The file `oidc.jwks` has no key with the token's `kid` for its algorithm; or the token names none and there are several.",
        "Fetch the issuer's key set again into the file; the bank reads it as soon as it is replaced.",
    )),
    of((
        JWT_SIGNATURE_WRONG,
        "jwt_signature_wrong",
        401,
        "The token's signature does not hold",
        "令牌签名无效",
        Nothing,
        "The signature was not made over these bytes by the key that the token names.",
        "Fetch a new token. If it repeats, the key file may belong to another issuer.",
    )),
    of((
        JWT_ISSUER_WRONG,
        "jwt_issuer_wrong",
        401,
        "The token comes from another issuer",
        "令牌的签发方不符",
        Nothing,
        "The claim `iss` is not `oidc.issuer`, to the letter.",
        "Compare `iss` with `oidc.issuer` in skerry.toml; a slash at the end counts.",
    )),
    of((
        JWT_AUDIENCE_WRONG,
        "jwt_audience_wrong",
        401,
        "The token was made for another audience",
        "令牌的受众不符",
        Nothing,
        "The claim `aud` does not name `oidc.audience`: the token was made for another service.",
        "Ask the identity provider for a token for this bank.",
    )),
    of((
        JWT_NOT_YET_VALID,
        "jwt_not_yet_valid",
        401,
        "The token is not valid yet",
        "令牌尚未生效",
        Nothing,
        "The claim `nbf` lies in the future by more than `oidc.leeway_seconds`.",
        "Wait, or set the clocks of the bank and the identity provider.",
    )),
    of((
        JWT_CLAIM_REFUSED,
        "jwt_claim_refused",
        403,
        "The token grants nothing here",
        "令牌未授予本行的任何权限",
        Nothing,
        "The token is genuine, and a claim that says what its holder may do is missing, cannot be read, or names a role that the issuer may not give. The detail names the claim. There is no default role.",
        "Let the identity provider set the claim; docs/configuration.md, section OIDC, lists names and forms.",
    )),
    of((
        MALFORMED_XML,
        "malformed_xml",
        400,
        "The body is not XML",
        "请求体不是有效的 XML",
        Nothing,
        "The body cannot be read as XML in UTF-8, or it has a document type declaration, which is never read; the detail says where it goes wrong.",
        "Mend the body; `xmllint --noout body.xml` shows the place.",
    )),
    of((
        INTERNAL,
        "internal",
        500,
        "An error of the bank's own",
        "内部错误",
        Unknown,
        "Something happened that should not; the log has it under the request's time.",
        "Send the same request again with the same id. If it repeats, report it with the log.",
    )),
];
