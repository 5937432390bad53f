//! 52xx: events, webhooks, buses and nodes.

use super::Effect::Nothing;
use super::{Entry, of};

/// The cursor stands for more than there is.
pub const CURSOR_AHEAD: u16 = 5200;
/// No event has such a type.
pub const EVENT_TYPE_UNKNOWN: u16 = 5201;
/// A webhook cannot be so.
pub const WEBHOOK_INVALID: u16 = 5210;
/// As many webhooks as there may be.
pub const WEBHOOKS_FULL: u16 = 5211;
/// Their file cannot be written.
pub const WEBHOOKS_UNAVAILABLE: u16 = 5212;
/// No bus has this name.
pub const BUS_NOT_FOUND: u16 = 5220;
/// The bus cannot be reached.
pub const BUS_AWAY: u16 = 5221;
/// The bus ends at a process, and the bank has several.
pub const BUS_NOT_SHARED: u16 = 5222;
/// No node has this name.
pub const NODE_NOT_FOUND: u16 = 5230;

pub(super) const ENTRIES: &[Entry] = &[
    of((
        CURSOR_AHEAD,
        "cursor_ahead",
        409,
        "The cursor is ahead of the branch",
        "游标超前于分行记录",
        Nothing,
        "The cursor stands for events that the branch does not have: it is another bank's, or the branch was opened from an \
         older copy.",
        "Find out which bank the cursor is of. If the branch was restored from a backup, begin again at a position that it has \
         (`position` in `GET /v1/branches`), or from the beginning: events keep their ids, so doubled ones are recognised.",
    )),
    of((
        EVENT_TYPE_UNKNOWN,
        "event_type_unknown",
        400,
        "No event has this type",
        "没有该类型的事件",
        Nothing,
        "A filter names a type that no event has and that no type begins with: it would never let anything pass.",
        "Name a type of docs/events.md, such as `skerry.transfer.posted`, or the beginning of some, such as `skerry.transfer`.",
    )),
    of((
        WEBHOOK_INVALID,
        "webhook_invalid",
        400,
        "The webhook cannot be made so",
        "无法创建该网络钩子",
        Nothing,
        "A field of the webhook is wrong; the detail says which and why. Addresses are `https://`; plain `http://` only on the \
         loopback, or when the bank runs with `--insecure`.",
        "Correct it.",
    )),
    of((
        WEBHOOKS_FULL,
        "webhooks_full",
        409,
        "Too many webhooks",
        "网络钩子数量已达上限",
        Nothing,
        "The bank has as many webhooks as it may have.",
        "Delete one that nobody needs (`skerry webhook list`), or raise `webhooks.endpoints_max`.",
    )),
    of((
        WEBHOOKS_UNAVAILABLE,
        "webhooks_unavailable",
        503,
        "Webhooks are not available",
        "网络钩子暂不可用",
        Nothing,
        "The file of the webhooks could not be read or written; the bank's log says why.",
        "See to the data folder (space, rights), then send the request again.",
    )),
    of((
        BUS_NOT_FOUND,
        "bus_not_found",
        404,
        "There is no such bus",
        "没有该消息总线",
        Nothing,
        "The name is neither `local` nor one of `[buses]` in the configuration of the process that answers; the detail lists those \
         that are.",
        "Correct the name, or add the bus to the configuration of every process and start each again, then switch.",
    )),
    of((
        BUS_AWAY,
        "bus_away",
        503,
        "The bus cannot be reached",
        "无法连接该消息总线",
        Nothing,
        "The process that answers has no link to this bus, so payments between branches would wait on it. Messages go on over the bus \
         that is chosen now.",
        "See to the bus's servers (docs/runbooks/switch-bus.md); `skerry bus list` shows when the link is up. Then switch again.",
    )),
    of((
        BUS_NOT_SHARED,
        "bus_not_shared",
        409,
        "The bus ends at one process",
        "该消息总线仅限于单个进程",
        Nothing,
        "`local` carries messages inside one process. The branches of this bank are open in several (`skerry node`), so over it a branch \
         would hear nothing of those in other processes, and payments to them would wait for ever. Messages go on over the bus that is \
         chosen now.",
        "Switch to a bus of `[buses]`; `skerry bus list` shows them. Branches of one process hand each other their messages without a \
         bus in any case (`bus.straight`).",
    )),
    of((
        NODE_NOT_FOUND,
        "node_not_found",
        404,
        "No such node",
        "节点不存在",
        Nothing,
        "No process that hosts branches has ever reported to the directory under this name, or it was dropped from it.",
        "Check the name; `skerry node list` shows all.",
    )),
];
