//! How fast the store alone is: for people who change it. Run by hand, with optimisation, on a quiet machine.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::clock::{Clock, Stopwatch};
use crate::model::{Outcome, Seq, Timestamp};

use super::op::*;
use super::tests::{attempt, event, with_destinations};
use super::*;

/// Events per batch.
const BATCH: usize = 100;

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds() as u64)
}

/// Events of 1 KiB with a producer's id, in batches of a hundred, from insert to outcome. `POSTRIDER_EVENTS` says how many.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn events_per_second_from_insert_to_outcome() {
    let total: usize = std::env::var("POSTRIDER_EVENTS").map_or(200_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::at(folder.path().join("postrider.redb"), super::tests::keys());
    let store = Store::open(&settings, Clock::system(), 1).unwrap();
    let no = with_destinations(&store, 1).await[0];
    let body = "x".repeat(1024);
    let mut said = 0;
    let (mut watch, mut before) = (Stopwatch::start(), cpu());
    for batch in 0..total / BATCH {
        let events = (0..BATCH).map(|n| event("transaction.sale", Some(&format!("T-{batch}-{n}")), &body)).collect();
        let _ = store.submit(Accept { events, waiting_max: u64::MAX }).await.unwrap();
        let rows = store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), BATCH)).await.unwrap();
        let mut tickets = Vec::new();
        for row in rows {
            let attempt = attempt(row, Outcome::Succeeded, None);
            tickets.push(store.enqueue(Finish { row, attempt, next: Next::Succeeded, health: None }).await.unwrap());
        }
        for ticket in tickets {
            let _ = ticket.committed().await.unwrap();
        }
        if (batch + 1) * BATCH * 5 / total > said {
            said += 1;
            let (seconds, used) = (watch.elapsed().as_secs_f64(), cpu() - before);
            let part = (total / 5) as f64;
            let (rate, each) = (part / seconds, used.as_secs_f64() * 1e6 / part);
            println!("{:>9} events: {rate:>6.0}/s, {each:>5.1} us of CPU each", (batch + 1) * BATCH);
            (watch, before) = (Stopwatch::start(), cpu());
        }
    }
    store.close().await;
}
