//! The whole router, and the description of the API that is made from it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::catalogue;
use crate::detail::said;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::routes;
use crate::service::Front;
use crate::traces::{self, Traces};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Skerry",
        description = "A bank core: customers, accounts, transfers. Money is a decimal string with a currency; every POST can be sent again under its id or Idempotency-Key; a problem names its page.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Bearer),
    security(("token" = [])),
    tags(
        (name = "customers", description = "Who banks here"),
        (name = "accounts", description = "What they have"),
        (name = "transfers", description = "Moving money"),
        (name = "reports", description = "For operators and auditors"),
        (name = "events", description = "What happened, as it happens"),
        (name = "webhooks", description = "Who is called when something happens"),
        (name = "branches", description = "The branches and their state"),
        (name = "approvals", description = "Four eyes"),
        (name = "import", description = "Leaving an old core"),
        (name = "tokens", description = "Who may call"),
        (name = "machines", description = "Health and metrics; no token needed"),
    )
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn described() -> (Router<Shared>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(routes::customers::router())
        .merge(routes::accounts::router())
        .merge(routes::entries::router())
        .merge(routes::statements::router())
        .merge(routes::transfers::router())
        .merge(routes::deeds::router())
        .merge(routes::lookups::router())
        .merge(routes::payments::router())
        .merge(routes::initiations::router())
        .merge(routes::payouts::router())
        .merge(routes::imports::router())
        .merge(routes::branches::router())
        .merge(routes::directory::router())
        .merge(routes::buses::router())
        .merge(routes::channels::router())
        .merge(routes::archive::router())
        .merge(routes::reports::router())
        .merge(routes::audit::router())
        .merge(routes::events::router())
        .merge(routes::webhooks::router())
        .merge(routes::approvals::router())
        .merge(routes::tokens::router())
        .merge(routes::machines::router())
        .split_for_parts()
}

/// The description of the API, as `/openapi.json` gives it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().1
}

/// The gateway behind its outermost layer, ready to be served.
#[must_use]
pub fn front(gateway: &Shared) -> Front {
    traced_front(gateway, None)
}

/// The same, telling `traces` of requests. Without, nothing of it is in the way of a request.
#[must_use]
pub fn traced_front(gateway: &Shared, traces: Option<Arc<dyn Traces>>) -> Front {
    let (router, openapi) = described();
    let json = serde_json::to_vec(&openapi).unwrap_or_default();
    let mut router = router.merge(routes::machines::pages(json.into()));
    if traces.is_some() {
        router = router.route_layer(axum::middleware::from_fn(traces::note_route));
    }
    let router = router
        .fallback(|| async {
            Problem::numbered(catalogue::NOT_FOUND)
                .detail(said!("nothing lies at this path", "该路径下没有内容"))
                .into_response()
        })
        .method_not_allowed_fallback(|| async {
            Problem::numbered(catalogue::METHOD_NOT_ALLOWED).into_response()
        })
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(Shared::clone(gateway));
    Front::new(router, Arc::clone(&gateway.meters), Arc::clone(&gateway.stopping)).with_traces(traces)
}
