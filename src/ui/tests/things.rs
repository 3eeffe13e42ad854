//! Things of a tenant that a page may show, each with a text in it that would run if it were markup.

use serde_json::json;

use super::*;
use crate::model::delivery::{Headers, Phases};
use crate::model::{Attempt, DeliveryId, Outcome, Reason, Trigger};

/// What runs where it is not escaped, in markup, in an attribute, in a script.
pub(super) const CANARY: &str = r#"'"><img src=x onerror=alert(1)></script><script>alert(2)</script>"#;

/// What stands in the body of a receiver's reply and nowhere else.
pub(super) const REPLY: &str = "no stock";

/// The ids of one tenant's things.
#[derive(Debug)]
pub(super) struct Things {
    pub(super) tenant: String,
    pub(super) destination: String,
    pub(super) event: String,
    pub(super) delivery: String,
    pub(super) replay: String,
    pub(super) key: String,
    pub(super) signing_key: String,
    pub(super) person: String,
}

impl Things {
    /// One of each, for a new tenant. The delivery has failed once, with a reply.
    pub(super) async fn make(world: &World, tenant: &str) -> Self {
        world.done("POST", "/v1/tenants", json!({"id": tenant, "name": format!("{tenant} {CANARY}")})).await;
        let body = json!({
            "name": format!("{tenant} {CANARY}"), "description": CANARY,
            "http_endpoint_url": "https://example.com/?q=<script>alert(3)</script>",
            "headers": {"X-Own": "v"}, "auth": {"type": "basic", "username": CANARY.replace(':', ""), "password": "secret-password"},
        });
        let made = world.done_for(tenant, "POST", "/v1/destinations/webhook", body).await;
        let destination = made["id"].as_str().unwrap().to_owned();
        let body = json!({"destinations": [destination], "tenant": tenant});
        world.done("POST", "/v1/subscriptions/sale", body).await;
        let event = json!({
            "type": "sale", "tenant": tenant, "id": format!("{tenant}-{CANARY}"), "key": CANARY, "source": CANARY,
            "data": {"note": CANARY, "card": "4111111111111111"},
        });
        let event = world.done("POST", "/v1/events", event).await["id"].as_str().unwrap().to_owned();
        let listed = world.done("GET", &format!("/v1/events/{event}/deliveries"), Value::Null).await;
        let delivery = listed["deliveries"][0]["id"].as_str().unwrap().to_owned();
        world.answer(&delivery, format!("{REPLY} {CANARY}").into_bytes()).await;
        let replay = world.done_for(tenant, "POST", "/v1/replays", json!({})).await;
        let key = world.done("POST", "/v1/keys", json!({"role": "read", "tenant": tenant, "name": CANARY})).await;
        let signing = json!({"kind": "source", "name": CANARY});
        let signing_key = world.done_for(tenant, "POST", "/v1/signing-keys", signing).await;
        let person = json!({"name": format!("anna@{tenant}.example"), "role": "read", "tenant": tenant});
        let person = world.done("POST", "/v1/users", person).await;
        Things {
            tenant: tenant.to_owned(),
            destination,
            event,
            delivery,
            replay: replay["id"].as_str().unwrap().to_owned(),
            key: key["id"].as_str().unwrap().to_owned(),
            signing_key: signing_key["id"].as_str().unwrap_or("sgk_aaaaaaaaaa").to_owned(),
            person: person["id"].as_str().unwrap().to_owned(),
        }
    }

    /// A pattern with these things' ids in it.
    pub(super) fn path(&self, pattern: &str) -> String {
        let id = match pattern.split('/').nth(2) {
            Some("destinations" | "webhooks") => &self.destination,
            Some("events") => &self.event,
            Some("deliveries") => &self.delivery,
            Some("tenants") => &self.tenant,
            Some("keys") => &self.key,
            Some("replays") => &self.replay,
            Some("people") => &self.person,
            Some("signing-keys") => &self.signing_key,
            _ if !pattern.contains('{') => "",
            _ => panic!("{pattern}: say here how such a thing is named"),
        };
        pattern.replace("{id}", id)
    }
}

impl World {
    /// Asks the API as the operator for a tenant, with success.
    pub(super) async fn done_for(&self, tenant: &str, method: &str, path: &str, body: Value) -> Value {
        let request = ::http::Request::builder().method(method).uri(path).header("x-tenant", tenant);
        let request = Request::whole(request.body(Bytes::from(body.to_string())).unwrap(), operator(), "req_1");
        let response =
            self.api.clone().handler().answer(request).await.unwrap_or_else(|problem| problem.into_response("r"));
        let Body::Whole(body) = response.into_body() else { panic!("a stream") };
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    }

    /// An attempt of a delivery that failed, with a reply of a receiver that means ill.
    pub(super) async fn answer(&self, id: &str, reply: Vec<u8>) {
        let id: DeliveryId = id.parse().unwrap();
        let seen = self.service.delivery(&service::Sight::All, id).await.unwrap();
        let headers: Headers = [("X-Evil", CANARY)].into_iter().collect();
        let due = START.after(std::time::Duration::from_secs(600));
        let attempt = Attempt {
            number: seen.delivery.attempts.len() as u32 + 1,
            due: START,
            started: START,
            duration: std::time::Duration::from_millis(12),
            trigger: Trigger::Schedule,
            outcome: Outcome::Failed,
            reason: Some(Reason::Status),
            status: Some(503),
            request_headers: [("Authorization", "***")].into_iter().collect(),
            response_headers: headers,
            response_body: reply,
            error: Some(CANARY.to_owned()),
            address: Some(([10, 0, 0, 1], 443).into()),
            phases: Phases { connect: Some(std::time::Duration::from_millis(2)), ..Phases::default() },
            reconnected: true,
            next: Some(due),
        };
        let next = store::op::Next::Retry(due);
        let finish = store::op::Finish { row: seen.delivery.row.unwrap(), attempt, next, health: None };
        let _ = self.store.submit(finish).await.unwrap();
    }
}
