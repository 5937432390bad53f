//! What a process that hosts branches tells machines: what it hosts and under which leases, and its figures. No customer comes here, so
//! nobody needs a token; what branches count is in the gateways' `/metrics`, once for each bank and not once more for each node.
//!
//! ```text
//! /healthz  200 with what is hosted; 503 once the thread that hosts has stood still for STILL
//! /metrics  the node's own figures, its buses', its process's
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use skerry_post::Post;

use crate::catalogue;
use crate::detail::said;
use crate::meters::{Exposition, Meters, seconds};
use crate::problem::Problem;
use crate::routes::{json, machines, surroundings};
use crate::service::Front;

/// The thread that hosts looks around many times a second: one that has not for so long is stuck.
const STILL: Duration = Duration::from_secs(10);

/// A branch that a node has open, or on its way in or out, or follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedBranch {
    /// Its number.
    pub number: u16,
    /// `opening`, `open`, `failed` or `closing`; [`FOLLOWING`](Self::FOLLOWING).
    pub state: &'static str,
    /// For how long still its answers may rest on its lease, microseconds; 0: each waits for its journal's store to confirm the owner.
    pub lease_left_us: u64,
    /// Of one that it follows: the records that it has yet to read, as far as it knows.
    pub behind: Option<u64>,
}

impl HostedBranch {
    /// Another node has it open, and this one reads its journal.
    pub const FOLLOWING: &'static str = "following";

    fn is_followed(&self) -> bool {
        self.state == Self::FOLLOWING
    }
}

/// What a node says of itself.
#[derive(Debug, Clone)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// When the thread that hosts last looked around.
    pub looked: Instant,
    /// When the directory last answered it.
    pub heard: Option<Instant>,
    /// Whether an operator drains it.
    pub drained: bool,
    /// Whether its clock is too far off the directory's to host anything.
    pub clock_off: bool,
    /// Whether the bus does not reach it.
    pub cut_off: bool,
    /// By number.
    pub branches: Vec<HostedBranch>,
    /// Branches opened since it began.
    pub opened: u64,
    /// Branches closed since.
    pub closed: u64,
    /// Openings that failed since.
    pub failed: u64,
    /// Asks of the directory that had no answer since.
    pub unanswered: u64,
}

impl HostReport {
    /// A node that hosts nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            looked: Instant::now(),
            heard: None,
            drained: false,
            clock_off: false,
            cut_off: false,
            branches: Vec::new(),
            opened: 0,
            closed: 0,
            failed: 0,
            unanswered: 0,
        }
    }

    /// How long the directory has been silent; since `begun` if it never answered.
    fn silence(&self, begun: Instant) -> Duration {
        self.heard.unwrap_or(begun).elapsed()
    }
}

/// Gives the report of now, at once.
pub type Reports = Arc<dyn Fn() -> HostReport + Send + Sync>;

/// What stands behind the two calls.
pub struct Hosting {
    /// The node.
    pub reports: Reports,
    /// What carries its branches' messages.
    pub post: Post,
    /// On the disk whose room is told.
    pub folder: PathBuf,
}

struct Face {
    hosting: Hosting,
    meters: Arc<Meters>,
    begun: Instant,
}

/// The two calls behind the outermost layer, ready to be served.
#[must_use]
pub fn front(hosting: Hosting) -> Front {
    let meters = Arc::new(Meters::default());
    let face = Face { hosting, meters: Arc::clone(&meters), begun: Instant::now() };
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            let detail = said!(
                "a node answers /healthz and /metrics; the bank's API is at its gateways",
                "节点仅应答 /healthz 和 /metrics；银行的接口在其网关上"
            );
            Problem::numbered(catalogue::NOT_FOUND).detail(detail).into_response()
        })
        .method_not_allowed_fallback(|| async {
            Problem::numbered(catalogue::METHOD_NOT_ALLOWED).into_response()
        })
        .with_state(Arc::new(face));
    Front::new(router, meters, Arc::new(AtomicBool::new(false)))
}

#[derive(Serialize)]
struct HealthView {
    node: String,
    /// `hosting`, `draining`, `cut_off`, `clock_off`, or `stuck`.
    state: &'static str,
    /// Milliseconds since the directory last answered.
    directory_silent_ms: u64,
    branches: Vec<BranchView>,
    following: Vec<FollowedView>,
}

#[derive(Serialize)]
struct FollowedView {
    branch: u16,
    /// Records that it has yet to read; left out while nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u64>,
}

#[derive(Serialize)]
struct BranchView {
    branch: u16,
    state: &'static str,
    /// `held`, or `beyond`: then each answer waits for the journal's store.
    lease: &'static str,
    lease_left_ms: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn healthz(State(face): State<Arc<Face>>) -> Response {
    let report = (face.hosting.reports)();
    let stuck = report.looked.elapsed() > STILL;
    let state = match (stuck, report.clock_off, report.cut_off, report.drained) {
        (true, ..) => "stuck",
        (_, true, ..) => "clock_off",
        (.., true, _) => "cut_off",
        (.., true) => "draining",
        _ => "hosting",
    };
    let branch = |hosted: &HostedBranch| BranchView {
        branch: hosted.number,
        state: hosted.state,
        lease: if hosted.lease_left_us > 0 { "held" } else { "beyond" },
        lease_left_ms: hosted.lease_left_us / 1_000,
    };
    let followed = |hosted: &HostedBranch| FollowedView { branch: hosted.number, behind: hosted.behind };
    let (following, hosted): (Vec<_>, Vec<_>) =
        report.branches.iter().partition(|branch| branch.is_followed());
    let view = HealthView {
        state,
        directory_silent_ms: millis(report.silence(face.begun)),
        branches: hosted.into_iter().map(branch).collect(),
        following: following.into_iter().map(followed).collect(),
        node: report.name.clone(),
    };
    json(if stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, &view)
}

async fn metrics(State(face): State<Arc<Face>>) -> Response {
    let mut out = Exposition::default();
    machines::begin(face.begun, &mut out);
    face.meters.write(&mut out);
    surroundings::write_machine(&face.hosting.folder, &mut out);
    write(&(face.hosting.reports)(), face.begun, &mut out);
    machines::write_buses(&face.hosting.post, &mut out);
    machines::exposed(out)
}

fn write(report: &HostReport, begun: Instant, out: &mut Exposition) {
    let flags = [
        ("draining", "1 while an operator drains the node.", report.drained),
        ("clock_off", "1 while its clock is too far off the directory's to host anything.", report.clock_off),
        ("cut_off", "1 while the bus does not reach it.", report.cut_off),
        ("stuck", "1 if the thread that hosts stands still.", report.looked.elapsed() > STILL),
    ];
    for (name, help, holds) in flags {
        out.single(&format!("skerry_node_{name}"), "gauge", help, u64::from(holds));
    }
    let silence = u64::try_from(report.silence(begun).as_micros()).unwrap_or(u64::MAX);
    out.metric("skerry_node_directory_silent_seconds", "gauge", "Since the directory last answered.");
    out.line(format_args!("skerry_node_directory_silent_seconds {}", seconds(silence)));
    let counts = [
        ("opened", "Branches opened here.", report.opened),
        ("closed", "Branches closed here.", report.closed),
        ("failed", "Openings of branches that failed here.", report.failed),
        ("unanswered", "Asks of the directory that had no answer.", report.unanswered),
    ];
    for (name, help, value) in counts {
        out.single(&format!("skerry_node_{name}_total"), "counter", help, value);
    }
    let hosted = report.branches.iter().filter(|branch| branch.state == "open").count();
    let hosted = u64::try_from(hosted).unwrap_or(u64::MAX);
    out.single("skerry_node_branches", "gauge", "Branches that are open here.", hosted);
    let help = "For how long still answers of the branch may rest on its lease.";
    out.metric("skerry_node_lease_left_seconds", "gauge", help);
    let (following, hosted): (Vec<_>, Vec<_>) =
        report.branches.iter().partition(|branch| branch.is_followed());
    for HostedBranch { number, lease_left_us, .. } in hosted {
        let left = seconds(*lease_left_us);
        out.line(format_args!("skerry_node_lease_left_seconds{{branch=\"{number}\"}} {left}"));
    }
    let count = u64::try_from(following.len()).unwrap_or(u64::MAX);
    out.single(
        "skerry_node_followed_branches",
        "gauge",
        "Branches of other nodes that are followed here.",
        count,
    );
    let help = "Records of a followed branch that are yet to be read; absent while that is not known.";
    out.metric("skerry_follower_behind_records", "gauge", help);
    for HostedBranch { number, behind, .. } in following {
        let Some(behind) = behind else { continue };
        out.line(format_args!("skerry_follower_behind_records{{branch=\"{number}\"}} {behind}"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use skerry_branch::api::GatewayKey;
    use skerry_post::{PostOptions, PostThread};

    use super::*;

    async fn asked(front: &Front, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = front.clone().answer(request).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn of(report: HostReport, post: &PostThread) -> Front {
        let reports: Reports = Arc::new(move || report.clone());
        front(Hosting { reports, post: post.post(), folder: std::env::temp_dir() })
    }

    #[tokio::test]
    async fn a_node_tells_what_it_hosts_and_nothing_else() {
        let post = PostThread::start(PostOptions::local(GatewayKey::new([7; 32]))).unwrap();
        let branch =
            |number, state, lease_left_us| HostedBranch { number, state, lease_left_us, behind: None };
        let followed = |number, behind| HostedBranch { behind, ..branch(number, HostedBranch::FOLLOWING, 0) };
        let mut report = HostReport::new("a");
        report.branches = vec![
            branch(1, "open", 1_500_000),
            branch(2, "opening", 0),
            followed(3, Some(17)),
            followed(4, None),
        ];
        (report.opened, report.drained) = (3, true);
        let node = of(report.clone(), &post);
        let (status, text) = asked(&node, "GET", "/healthz").await;
        let view: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &view["node"], &view["state"]), (200, &"a".into(), &"draining".into()));
        assert_eq!(
            (&view["branches"][0]["lease"], &view["branches"][0]["lease_left_ms"]),
            (&"held".into(), &1_500.into())
        );
        assert_eq!(
            (&view["branches"][1]["lease"], &view["branches"][1]["state"]),
            (&"beyond".into(), &"opening".into())
        );
        assert_eq!(view["branches"].as_array().unwrap().len(), 2, "{view}");
        assert_eq!(view["following"], serde_json::json!([{"branch": 3, "behind": 17}, {"branch": 4}]));
        let (status, text) = asked(&node, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(!text.contains("skerry_follower_behind_records{branch=\"4\"}"), "unknown is unknown");
        assert!(!text.contains("skerry_node_lease_left_seconds{branch=\"3\"}"), "it has no lease");
        for line in [
            "skerry_follower_behind_records{branch=\"3\"} 17",
            "skerry_node_followed_branches 2",
            "skerry_node_draining 1",
            "skerry_node_branches 1",
            "skerry_node_opened_total 3",
            "skerry_node_lease_left_seconds{branch=\"1\"} 1.500000",
            "skerry_bus_chosen{bus=\"local\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(text.contains("process_resident_memory_bytes ") && text.contains("skerry_disk_free_bytes "));
        let (status, text) = asked(&node, "GET", "/v1/branches").await;
        assert!(status == 404 && text.contains("gateways"), "{status} {text}");
        assert_eq!(asked(&node, "POST", "/metrics").await.0, 405);

        report.looked = Instant::now().checked_sub(STILL * 2).unwrap();
        let (status, text) = asked(&of(report, &post), "GET", "/healthz").await;
        assert!(status == 503 && text.contains("\"stuck\""), "{status} {text}");
    }
}
