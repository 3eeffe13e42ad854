//! The audit log's lists against a plain walk over all records.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Clock;
use crate::model::TenantId;
use crate::model::audit::{Action, Who};
use crate::store::tests::keys;
use crate::store::{InMemoryBackend, Settings, Store, Window, WriterRuns};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Records, so many in one commit.
struct Note(Vec<Deed>);

impl Steer for Note {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.0.len() * 512
    }

    fn steer(self, _: &mut Batch<'_>) -> Result<Effect<()>, ApplyError> {
        Ok(Effect::Done((), self.0))
    }
}

/// Whatever is asked for, alone or with others, in pages of whatever size: what is listed is what a walk over all records
/// finds, also where the clock was set forth and back, and after the oldest records were dropped.
#[tokio::test]
async fn lists_of_the_audit_log_are_what_a_plain_walk_finds() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    let mut rng = fastrand::Rng::with_seed(3);
    let settings = Settings { cache_bytes: 1 << 20, ..Settings::at("memory", keys()) };
    let clock = Clock::of_runtime_set_by(START, &AHEAD);
    let store = Store::open_on(InMemoryBackend::new(), &settings, clock, 7, WriterRuns::Inline).unwrap();
    let actions = [Action::DestinationPause, Action::DestinationTest, Action::TenantCreate, Action::KeyDelete];
    let tenants: [Option<TenantId>; 3] = [None, "small".parse().ok(), "default".parse().ok()];
    for _ in 0..60 {
        AHEAD.store(rng.i64(0..1_000_000), Ordering::Relaxed);
        let actor = Actor { who: Who::Operator { uid: rng.u32(0..4) }, ..Actor::SYSTEM };
        let deed = |rng: &mut fastrand::Rng| Deed {
            action: actions[rng.usize(..actions.len())],
            tenant: tenants[rng.usize(..tenants.len())].clone(),
            object: (rng.u8(..) > 20).then(|| format!("Thing-{}", rng.u8(..9))),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
        };
        let deeds = (0..rng.usize(1..40)).map(|_| deed(&mut rng)).collect();
        let _ = store.steer(&actor, Note(deeds)).await.unwrap();
    }
    let at = |ahead: i64| Some(START.after(std::time::Duration::from_millis(ahead as u64)));
    let mut found_any = 0;
    for round in 0..400 {
        if round == 200 {
            let drop = DropAged { before: Timestamp::MAX, now: Timestamp::MAX, limit: 400 };
            assert_eq!(store.submit(drop).await.unwrap().answer.number, 400);
        }
        let asks = |rng: &mut fastrand::Rng| rng.u8(..3) == 0;
        let mut wanted = Wanted::default();
        if asks(&mut rng) {
            wanted.actor = Some(format!("UID:{}", rng.u8(..5)));
        }
        if asks(&mut rng) {
            let patterns = ["destination.pause", "destination.*", "*", "key.*", "user.*", "tenant.create"];
            wanted.action = patterns[rng.usize(..patterns.len())].parse().ok();
        }
        if asks(&mut rng) {
            wanted.object = Some(["thing-1", "Thing-8", "destination", "thing-12"][rng.usize(..4)].into());
        }
        if asks(&mut rng) {
            wanted.tenant = ["small", "default", "none"][rng.usize(..3)].parse().ok();
        }
        if asks(&mut rng) {
            wanted.from = at(rng.i64(0..1_100_000));
        }
        if asks(&mut rng) {
            wanted.to = at(rng.i64(0..1_100_000));
        }
        if asks(&mut rng) {
            wanted.first = rng.u64(..1500);
        }
        let all =
            store.read(|snapshot| snapshot.audit(&Wanted::default(), Window { after: None, skip: 0, limit: 9999 }));
        let texts = all.await.unwrap().items.into_iter().map(|(_, kept)| kept.text);
        let records = texts.map(|text| (Record::of(&text).unwrap(), text));
        let is_wanted = |record: &Record| record.number >= wanted.first && wanted.takes(record);
        let expected: Vec<_> = records.filter(|(record, _)| is_wanted(record)).map(|(_, text)| text).collect();
        let (mut listed, mut after, limit) = (Vec::new(), None, rng.usize(1..50));
        loop {
            let (asked, window) = (wanted.clone(), Window { after, skip: 0, limit });
            let page = store.read(move |snapshot| snapshot.audit(&asked, window)).await.unwrap();
            listed.extend(page.items.into_iter().map(|(_, kept)| kept.text));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(listed == expected, "{} instead of {} for {wanted:?}", listed.len(), expected.len());
        found_any += usize::from(!listed.is_empty());
    }
    assert!(found_any > 50, "{found_any}");
    store.close().await;
}
