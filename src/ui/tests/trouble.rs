//! What the dashboard says of destinations that do badly, or that nothing is sent to.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::delivery::{Headers, Phases};
use crate::model::{Attempt, DeliveryId, Outcome, Reason, Trigger};
use crate::store::op::{Finish, Next};

fn operate() -> Viewer {
    viewer(Role::Operate, None)
}

impl World {
    /// A destination of this name that is sent every `sale.*`, with further fields.
    async fn hook(&self, name: &str, more: Value) -> String {
        let mut body = json!({"name": name, "http_endpoint_url": "https://example.com/", "confirmed": true});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let id = self.done("POST", "/v1/destinations/webhook", body).await["id"].as_str().unwrap().to_owned();
        self.done("POST", "/v1/subscriptions/sale.*", json!({"destinations": [id]})).await;
        id
    }

    /// An event `sale.a`, and its delivery to a destination, if it has one.
    async fn sale(&self, destination: &str) -> (String, Option<DeliveryId>) {
        let event = self.done("POST", "/v1/events", json!({"type": "sale.a", "data": {"a": 1}})).await;
        let event = event["id"].as_str().unwrap().to_owned();
        let listed = self.done("GET", &format!("/v1/events/{event}/deliveries"), Value::Null).await;
        let all = listed["deliveries"].as_array().unwrap();
        let own = all.iter().find(|it| it["destination_id"] == destination);
        (event, own.map(|it| it["id"].as_str().unwrap().parse().unwrap()))
    }

    /// A delivery is answered with a status, and with that it ends, unless it is to be retried.
    async fn status(&self, id: DeliveryId, status: u16, retried: bool) {
        let seen = self.service.delivery(&service::Sight::All, id).await.unwrap();
        let due = START.after(Duration::from_secs(600));
        let (outcome, reason) = match status {
            200 => (Outcome::Succeeded, None),
            410 => (Outcome::Failed, Some(Reason::Gone)),
            _ => (Outcome::Failed, Some(Reason::Status)),
        };
        let attempt = Attempt {
            number: seen.delivery.attempts.len() as u32 + 1,
            due: START,
            started: START,
            duration: Duration::from_millis(12),
            trigger: Trigger::Schedule,
            outcome,
            reason,
            status: Some(status),
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: Vec::new(),
            error: Some(match status {
                410 => "status 410: the receiver says that it is gone".to_owned(),
                status => format!("status {status}"),
            }),
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: retried.then_some(due),
        };
        let next = match (outcome, retried) {
            (Outcome::Succeeded, _) => Next::Succeeded,
            (_, true) => Next::Retry(due),
            (_, false) => Next::GivenUp(crate::model::delivery::Ending::Exhausted),
        };
        let finish = Finish { row: seen.delivery.row.unwrap(), attempt, next, health: None };
        let _ = self.store.submit(finish).await.unwrap();
    }
}

/// The rows of the overview's destinations, each as its text.
fn rows(page: &Answered) -> Vec<&str> {
    let table = page.text.split("id=\"destinations\"").nth(1).unwrap();
    table.split("<tr>").skip(2).map(|row| row.split("</tr>").next().unwrap()).collect()
}

/// How many destinations the overview counts as in trouble.
fn troubled(page: &Answered) -> String {
    let tile = page.text.split("In trouble").nth(1).unwrap();
    tile.split("class=\"value\">").nth(1).unwrap().split('<').next().unwrap().to_owned()
}

/// A receiver that answers is alive; when it takes nothing it is in trouble all the same, and after a restart, too: the store
/// tells. PROMISES P8.
#[tokio::test]
async fn a_receiver_that_rejects_everything_is_in_trouble_with_the_reason() {
    let world = World::new();
    let well = world.hook("A well one", Value::Null).await;
    let bad = world.hook("Z that rejects", Value::Null).await;
    for _ in 0..3 {
        let (event, ours) = world.sale(&bad).await;
        world.status(ours.unwrap(), 401, false).await;
        let listed = world.done("GET", &format!("/v1/events/{event}/deliveries"), Value::Null).await;
        let other = listed["deliveries"].as_array().unwrap().iter().find(|it| it["destination_id"] == *well).unwrap();
        world.status(other["id"].as_str().unwrap().parse().unwrap(), 200, false).await;
    }
    // Nothing has told this daemon of an attempt: it might have been started just now.
    let webhooks = world.look(&operate(), "/ui/webhooks").await;
    assert!(webhooks.text.contains("open, failing") && webhooks.text.contains("badge good"), "{}", webhooks.text);
    let page = world.look(&operate(), "/ui/").await;
    let rows = rows(&page);
    assert!(rows[0].contains("Z that rejects") && rows[1].contains("A well one"), "{rows:?}");
    assert!(rows[0].contains("the last 3 attempts failed, and what was to go there was given up"), "{}", rows[0]);
    assert!(rows[0].contains("status 401, not a success") && rows[0].contains("open, failing"), "{}", rows[0]);
    assert!(!rows[0].contains("badge good") && rows[1].contains("badge good"), "{rows:?}");
    assert!(rows[1].contains("nothing stands in its way"), "{}", rows[1]);
    assert_eq!(troubled(&page), "1");
    let own = world.look(&operate(), &format!("/ui/destinations/{bad}")).await;
    assert!(own.text.contains("open, failing") && own.text.contains("the last 3 attempts failed"), "{}", own.text);
    assert!(!own.text.contains("nothing stands in its way"));
}

#[tokio::test]
async fn a_single_410_and_a_retry_are_told_before_the_lane_says_anything() {
    let world = World::new();
    let bad = world.hook("bad", Value::Null).await;
    let (_, delivery) = world.sale(&bad).await;
    world.status(delivery.unwrap(), 410, true).await;
    let page = world.look(&operate(), "/ui/").await;
    let row = rows(&page)[0].to_owned();
    assert!(row.contains("the last attempt failed") && !row.contains("given up"), "{row}");
    assert!(row.contains("the receiver says that it is gone (status 410)"), "{row}");
    assert_eq!(troubled(&page), "1");
}

/// One that takes most is not well while something was given up a short while ago.
#[tokio::test]
async fn what_was_given_up_lately_is_trouble_until_it_is_sent_again() {
    let world = World::new();
    let bad = world.hook("picky", Value::Null).await;
    let (_, lost) = world.sale(&bad).await;
    world.status(lost.unwrap(), 422, false).await;
    let (_, taken) = world.sale(&bad).await;
    world.status(taken.unwrap(), 200, false).await;
    let page = world.look(&operate(), "/ui/").await;
    let row = rows(&page)[0].to_owned();
    assert!(row.contains("some was given up") && row.contains("status 422, not a success"), "{row}");
    assert_eq!(troubled(&page), "1");
    world.done("POST", &format!("/v1/deliveries/{}/resend", lost.unwrap()), Value::Null).await;
    world.status(lost.unwrap(), 200, false).await;
    let page = world.look(&operate(), "/ui/").await;
    assert!(rows(&page)[0].contains("nothing stands in its way"), "{}", rows(&page)[0]);
    assert_eq!(troubled(&page), "0");
}

/// Decisions D14 and D24: what comes for a destination that never confirmed passes it by, and for one that confirmed another URL
/// it is held. The dashboard says which, where it begins, and afterwards at the event.
#[tokio::test]
async fn what_becomes_of_events_without_a_confirmation_is_told_as_it_is() {
    let world = World::asking(crate::model::ConfirmationMode::Ack);
    let admin = viewer(Role::Admin, None);
    let form = |label: &str, url: &str| {
        let pairs =
            [("label", label), ("url", url), ("patterns", "sale.*"), ("authentication", "none"), ("signature", "none")];
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    let made = world.act(&admin, "POST", "/ui/webhooks", &form("New", "https://example.com/")).await;
    assert_eq!(made.location, "/ui/webhooks?done=added_unconfirmed", "{}", made.text);
    let listed = world.look(&admin, &made.location).await;
    assert!(listed.text.contains("until it has, events pass the webhook by"), "{}", listed.text);
    let id = listed.text.split("href=\"/ui/destinations/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let row = rows(&world.look(&admin, "/ui/").await)[0].to_owned();
    assert!(row.contains("events pass it by until it does") && !row.contains("held until"), "{row}");

    let (event, none) = world.sale(&id).await;
    assert_eq!(none, None);
    let page = world.look(&admin, &format!("/ui/events/{event}")).await;
    assert!(page.text.contains("Passed by") && page.text.contains("it had never confirmed its URL"), "{}", page.text);
    assert!(page.text.contains(&format!("/ui/destinations/{id}\">New</a>")));
    assert!(!page.text.contains("No webhook had chosen this type"));
    let elsewhere =
        world.act(&admin, "POST", &format!("/ui/webhooks/{id}"), &form("New", "https://example.com/2")).await;
    assert_eq!(elsewhere.location, "/ui/webhooks?done=moved_unconfirmed", "{}", elsewhere.text);

    // Another had confirmed, and then its URL changes.
    let old = world.hook("Old", Value::Null).await;
    let saved = world.act(&admin, "POST", &format!("/ui/webhooks/{old}"), &form("Old", "https://example.com/2")).await;
    assert_eq!(saved.location, "/ui/webhooks?done=moved", "{}", saved.text);
    let listed = world.look(&admin, &saved.location).await;
    assert!(listed.text.contains("what is to go there is held"), "{}", listed.text);
    let row = rows(&world.look(&admin, "/ui/").await)[0].to_owned();
    assert!(row.contains("Old") && row.contains("held until it does"), "{row}");
}

/// Each row tells its moment as a date and a time, and not only how long ago it was, or only to a pointer that rests on it.
#[tokio::test]
async fn moments_can_be_read_as_dates() {
    let world = World::new();
    let id = world.hook("one", Value::Null).await;
    let (event, delivery) = world.sale(&id).await;
    let delivery = delivery.unwrap();
    world.status(delivery, 503, true).await;
    let admin = viewer(Role::Admin, None);
    let date = "2023-11-14 22:13:2";
    for (path, times) in [
        ("/ui/deliveries".to_owned(), 2),
        ("/ui/events".to_owned(), 1),
        ("/ui/audit".to_owned(), 1),
        (format!("/ui/deliveries/{delivery}"), 2),
        (format!("/ui/events/{event}"), 4),
    ] {
        let page = world.look(&admin, &path).await;
        let seen = page.text.split('>').filter(|it| it.split('<').next().unwrap().contains(date)).count();
        assert!(page.status == 200 && seen >= times, "{path}: {seen} of {times}: {}", page.text);
    }
    let own = world.look(&admin, &format!("/ui/deliveries/{delivery}")).await;
    assert!(own.text.contains("2023-11-14 22:23:20 UTC"), "the next attempt: {}", own.text);
}

/// The charts begin with the daemon's start, and say so before somebody takes a restart for an idle day.
#[tokio::test]
async fn the_charts_say_since_when_they_count() {
    let world = World::new();
    let id = world.hook("one", Value::Null).await;
    let (_, delivery) = world.sale(&id).await;
    world.status(delivery.unwrap(), 200, false).await;
    for path in ["/ui/".to_owned(), "/ui/?span=24h".to_owned(), format!("/ui/destinations/{id}?span=24h")] {
        let page = world.look(&operate(), &path).await;
        assert!(page.text.contains("Counted since the daemon started, "), "{path}: {}", page.text);
        assert!(page.text.contains("(2023-11-14 22:13:20 UTC)"), "{path}: {}", page.text);
        assert!(page.text.contains("No attempts since the daemon started"), "{path}");
        assert!(!page.text.contains("No attempts in this time"), "{path}");
    }
}

/// A destination's page tells its newest attempts one by one, and does not repeat its own name in every row.
#[tokio::test]
async fn a_destinations_page_shows_its_recent_attempts() {
    let world = World::new();
    let id = world.hook("The only one", Value::Null).await;
    let (_, delivery) = world.sale(&id).await;
    let delivery = delivery.unwrap();
    world.status(delivery, 503, true).await;
    world.status(delivery, 500, true).await;
    let page = world.look(&operate(), &format!("/ui/destinations/{id}")).await;
    let attempts = page.text.split("Recent attempts").nth(1).unwrap().split("</section>").next().unwrap();
    let places: Vec<_> =
        [2, 1].map(|number| attempts.find(&format!("/ui/deliveries/{delivery}#attempt-{number}"))).into();
    assert!(places[0].unwrap() < places[1].unwrap(), "the newest first: {attempts}");
    assert!(attempts.contains("503") && attempts.contains("500"));
    assert!(!page.text.contains("data-label=\"Destination\""));
    assert!(world.look(&operate(), "/ui/deliveries").await.text.contains("data-label=\"Destination\""));
}

/// What went to a destination that was deleted keeps its name, leads to no page that is not there, and says why it cannot be sent.
#[tokio::test]
async fn a_deleted_destination_is_named_and_not_linked() {
    let world = World::new();
    let id = world.hook("Old shop", Value::Null).await;
    let (_, delivery) = world.sale(&id).await;
    let delivery = delivery.unwrap();
    world.status(delivery, 404, false).await;
    world.done("DELETE", &format!("/v1/destinations/webhook/{id}"), Value::Null).await;
    let listed = world.look(&operate(), &format!("/ui/deliveries?destination={id}")).await;
    assert!(!listed.text.contains(&format!("/ui/destinations/{id}")), "{}", listed.text);
    assert!(
        listed.text.contains(&format!("<option value=\"{id}\" selected>Old shop (deleted)</option>")),
        "{}",
        listed.text
    );
    assert!(listed.text.contains("Old shop <span class=\"muted\">(deleted)</span>"));
    let own = world.look(&operate(), &format!("/ui/deliveries/{delivery}")).await;
    assert!(own.text.contains("Its destination was deleted: it cannot be sent again"), "{}", own.text);
    assert!(!own.text.contains("/ui/destinations/") && !own.text.contains("/resend"), "{}", own.text);
    // The overview says that some of what it counts has nowhere to go.
    let overview = world.look(&operate(), "/ui/").await;
    assert!(overview.text.contains("1 of deleted destinations"), "{}", overview.text);
}

/// The oldest that waits is a way to it; to somebody of one tenant, who is not told it, nothing says that nothing waits.
#[tokio::test]
async fn the_oldest_that_waits_leads_to_its_event() {
    let world = World::new();
    let id = world.hook("one", Value::Null).await;
    let nothing = world.look(&operate(), "/ui/").await;
    assert!(nothing.text.contains("nothing waits"), "{}", nothing.text);
    let event = json!({"type": "sale.a", "data": {}, "deliver_at": "2023-12-31T00:00:00Z"});
    let later = world.done("POST", "/v1/events", event).await["id"].as_str().unwrap().to_owned();
    let (_, _) = world.sale(&id).await;
    let page = world.look(&operate(), "/ui/").await;
    assert!(page.text.contains(&format!("href=\"/ui/events/{later}\"")), "{}", page.text);
    assert!(!page.text.contains("nothing waits"), "{}", page.text);
    let own = world.look(&viewer(Role::Operate, Some("default")), "/ui/").await;
    assert!(!own.text.contains("nothing waits") && own.text.contains("is told for all tenants together"));
}

/// Decision D23: events pass a destination by that is switched off. Its page says so, and switches it on.
#[tokio::test]
async fn a_destination_that_is_switched_off_says_so_and_is_switched_on() {
    let world = World::new();
    let id = world.hook("off", json!({"disabled": true})).await;
    let (event, none) = world.sale(&id).await;
    assert_eq!(none, None);
    let skipped = world.look(&operate(), &format!("/ui/events/{event}")).await;
    assert!(skipped.text.contains("it was switched off"), "{}", skipped.text);
    let overview = world.look(&operate(), "/ui/").await;
    assert!(
        rows(&overview)[0].contains("disabled") && !rows(&overview)[0].contains("paused"),
        "{}",
        rows(&overview)[0]
    );
    assert_eq!(troubled(&overview), "0", "as somebody wants it");
    let path = format!("/ui/destinations/{id}");
    let page = world.look(&operate(), &path).await;
    assert!(page.text.contains("it is switched off: events pass it by") && page.text.contains("Switch on"));
    assert!(!page.text.contains("held until"), "nothing waits");
    let read = world.look(&viewer(Role::Read, None), &path).await;
    assert!(read.text.contains("it is switched off") && !read.text.contains("Switch on"));
    let done = world.act(&operate(), "POST", &format!("{path}/enable"), "").await;
    assert_eq!((done.status, done.location.as_str()), (303, format!("{path}?done=enabled").as_str()), "{}", done.text);
    let page = world.look(&operate(), &done.location).await;
    assert!(page.text.contains("The destination is switched on") && page.text.contains("nothing stands in its way"));
    // What waits when one is switched off is held.
    world.sale(&id).await;
    world.done("PUT", &format!("/v1/destinations/webhook/{id}"), json!({"disabled": true})).await;
    let overview = world.look(&operate(), "/ui/").await;
    assert!(rows(&overview)[0].contains("what waits for it is held until it is switched on"), "{}", rows(&overview)[0]);
}

/// A destination's page tells the delays that hold, whoever chose them; and the command for an attempt says what it is to send.
#[tokio::test]
async fn a_schedule_is_told_in_delays_and_a_command_says_what_its_body_is() {
    let world = World::new();
    for (retry, words) in [
        (
            json!({}),
            "default, <code>standard</code>: after 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h; 10 attempts in all",
        ),
        (json!({"retry": {"delays": ["1s", "1m"], "attempts_max": 5}}), "<dd>after 1s, 3 × 1m; 5 attempts in all"),
        (json!({"retry": {"attempts_max": 1}}), "none, one attempt in all"),
    ] {
        let id = world.hook("one", retry).await;
        let page = world.look(&operate(), &format!("/ui/destinations/{id}")).await;
        let told = page.text.split("<dt>Retries</dt>").nth(1).unwrap().split("</dd>").next().unwrap();
        assert!(told.contains(words), "{told}");
    }
    for (format, words) in [("raw", "The body was the event"), ("standard", "and is not kept")] {
        let id = world.hook(format, json!({"format": format})).await;
        let (event, delivery) = world.sale(&id).await;
        let delivery = delivery.unwrap();
        world.status(delivery, 500, true).await;
        let page = world.look(&operate(), &format!("/ui/deliveries/{delivery}")).await;
        let command = page.text.split("Copy as curl").nth(1).unwrap();
        assert!(command.contains(words) && command.contains(&format!("/ui/events/{event}\">event")), "{command}");
    }
}

#[tokio::test]
async fn an_attempt_says_no_sentence_twice() {
    let world = World::new();
    let id = world.hook("gone", Value::Null).await;
    for (status, words) in [(410, "the receiver says that it is gone"), (503, "the reply was not a success")] {
        let (_, delivery) = world.sale(&id).await;
        let delivery = delivery.unwrap();
        world.status(delivery, status, true).await;
        let page = world.look(&operate(), &format!("/ui/deliveries/{delivery}")).await;
        assert_eq!(page.text.matches(words).count(), 1, "{}", page.text);
        assert!(!page.text.contains(&format!("status {status}")), "the badge says it: {}", page.text);
    }
}
