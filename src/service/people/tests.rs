//! The door, step by step: who gets in, how far, for how long, and what is told to whoever does not.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::clock::Clock;
use crate::model::audit::Wanted;
use crate::model::event::Peer;
use crate::model::user::PROOF_LASTS;
use crate::model::{ConfirmationMode, Timestamp};
use crate::service::{self, ConfirmationSettings, Window};
use crate::store::tests::{Kept, keys};
use crate::store::{self, Store, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const PASSWORD: &str = "correct horse battery";

struct House {
    service: Service,
    disk: Kept,
    clock: Clock,
}

fn open(disk: &Kept, clock: Clock) -> Service {
    let settings = store::Settings { cache_bytes: 1 << 20, ..store::Settings::at("memory", keys()) };
    let store = Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap();
    let rng = Mutex::new(fastrand::Rng::with_seed(7));
    let settings = service::Settings {
        pending_max: 1000,
        schedules: HashMap::new(),
        schedule: "standard".to_owned(),
        confirmation: ConfirmationSettings { mode: ConfirmationMode::Off, reset_on_url_change: true },
        mask: crate::model::mask::PayloadMask::default(),
        proof_lasts: PROOF_LASTS,
        policy: Arc::new(|_| Ok(())),
        chance: Arc::new(move |bytes| rng.lock().unwrap().fill(bytes)),
    };
    Service::new(settings, store, clock)
}

fn operator() -> Actor {
    let peer = Peer { uid: 1000, gid: 1000, pid: None };
    Actor { who: Who::Operator { uid: 1000 }, from: Origin::Socket(peer), request: None }
}

fn knock() -> Knock {
    Knock { from: Origin::Address(([192, 0, 2, 7], 4711).into()), request: Some("req_9".into()) }
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

impl House {
    fn new() -> Self {
        let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
        House { service: open(&disk, clock), disk, clock }
    }

    /// Somebody whose password is [`PASSWORD`].
    async fn person(&self, name: &str) -> User {
        let new =
            NewUser { name: name.parse().unwrap(), role: Role::Admin, tenant: None, password: Some(secret(PASSWORD)) };
        self.service.create_user(&operator(), new).await.unwrap().0
    }

    async fn sign_in(&self, name: &str) -> Result<Step, DoorError> {
        self.service.sign_in(&knock(), name, secret(PASSWORD)).await
    }

    /// The code that the person's app shows.
    fn code(&self, key: &str) -> String {
        let key = totp_rs::Secret::try_from_base32(key).unwrap();
        TotpKey::from_chance(key.as_bytes().try_into().unwrap()).code_at(self.service.now())
    }

    /// Somebody who has enrolled: his key, his recovery codes, and his session.
    async fn enrolled(&self, name: &str) -> (String, Vec<Secret>, Secret) {
        self.person(name).await;
        let step = self.sign_in(name).await.unwrap();
        let key = self.service.enrolment(step.token.expose()).unwrap().key.expose().to_owned();
        let code = self.code(&key);
        let (step, codes) = self.service.confirm_enrolment(&knock(), step.token.expose(), &code).await.unwrap();
        assert_eq!(step.stage, Stage::Inside);
        // The step of the enrolment is used up.
        tokio::time::advance(Duration::from_secs(30)).await;
        (key, codes, step.token)
    }

    fn stage(&self, token: &Secret) -> Option<Stage> {
        self.service.seen(token.expose()).map(|seen| seen.stage)
    }

    async fn records(&self) -> Vec<serde_json::Value> {
        let page = self.service.audit(Wanted::default(), Window { after: None, skip: 0, limit: 1000 }).await.unwrap();
        let texts = page.items.into_iter().map(|(_, kept)| kept.text);
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    async fn actions(&self) -> Vec<String> {
        let records = self.records().await;
        records.iter().rev().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// S1.4, S1.5, decision D20: whoever has no second factor enrols one before anything else; afterwards each sign-in asks for the
/// password and for a code. Each step has a token of its own, and the one of before ends (fixation).
#[tokio::test(start_paused = true)]
async fn the_door_has_two_steps_and_a_first_time() {
    let house = House::new();
    house.person("anna").await;
    let first = house.sign_in(" Anna ").await.unwrap();
    assert_eq!((first.stage, house.stage(&first.token)), (Stage::Enrol, Some(Stage::Enrol)));
    let token = first.token.expose();
    assert_eq!(house.service.show_code(&knock(), token, "000000").await, Err(DoorError::Ended), "there is no code yet");
    assert_eq!(house.service.step_up(&knock(), token, "000000").await, Err(DoorError::Ended));
    let shown = house.service.enrolment(token).unwrap();
    assert_eq!(shown, house.service.enrolment(token).unwrap(), "a page that is loaded again shows the same key");
    assert!(shown.url.expose().starts_with("otpauth://totp/Postrider:anna?secret="), "{}", shown.url.expose());
    let wrong = house.service.confirm_enrolment(&knock(), token, "000000").await;
    assert_eq!(wrong, Err(DoorError::WrongCode));
    let code = house.code(shown.key.expose());
    let (inside, codes) = house.service.confirm_enrolment(&knock(), token, &code).await.unwrap();
    assert_eq!((inside.stage, codes.len(), house.stage(&first.token)), (Stage::Inside, RECOVERY_CODES, None));
    assert_ne!(inside.token, first.token);

    let half = house.sign_in("anna").await.unwrap();
    assert_eq!(half.stage, Stage::Code);
    assert_eq!(house.service.enrolment(half.token.expose()), Err(DoorError::Ended), "half a door shows no key");
    assert_eq!(
        house.service.show_code(&knock(), half.token.expose(), &code).await,
        Err(DoorError::WrongCode),
        "the code of the enrolment is used up"
    );
    tokio::time::advance(Duration::from_secs(30)).await;
    let code = house.code(shown.key.expose());
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let second = house.service.show_code(&knock(), half.token.expose(), &spaced).await.unwrap();
    assert_eq!((second.stage, house.stage(&half.token)), (Stage::Inside, None));
    assert_eq!(
        HashSet::from([first.token.expose(), inside.token.expose(), half.token.expose(), second.token.expose()]).len(),
        4
    );
    let actions = ["user.create", "user.enrol", "user.sign_in_refused", "user.sign_in"];
    assert_eq!(house.actions().await, actions);
    let record = &house.records().await[0];
    assert_eq!((&record["actor"]["name"], &record["actor"]["type"]), (&"anna".into(), &"user".into()));
    assert_eq!((&record["from"]["address"], &record["request"]), (&"192.0.2.7:4711".into(), &"req_9".into()));
}

/// P18: a wrong password, a name that nobody has, a locked login and what can be no name at all are told apart by no word.
#[tokio::test(start_paused = true)]
async fn whoever_guesses_learns_nothing_from_the_words() {
    let house = House::new();
    house.enrolled("anna").await;
    house.enrolled("locked").await;
    for _ in 0..10 {
        assert!(house.service.sign_in(&knock(), "locked", secret("wrong")).await.is_err());
    }
    let mut answers = Vec::new();
    for (name, password) in [
        ("anna", "wrong"),
        ("nobody", PASSWORD),
        ("locked", PASSWORD),
        ("a b:c\u{0}", PASSWORD),
        ("", ""),
        ("anna", ""),
    ] {
        let refused = house.service.sign_in(&knock(), name, secret(password)).await.unwrap_err();
        let recovery =
            house.service.recover(&knock(), name, secret(password), "0000-0000-0000-0000").await.unwrap_err();
        answers.extend([refused.to_string(), recovery.to_string()]);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let log = house.records().await;
    let log = serde_json::to_string(&log).unwrap();
    assert!(!log.contains("nobody") && !log.contains("wrong horse"), "{log}");
}

/// P18: the right code of a locked login is refused; a recovery code with the password unlocks it, once.
#[tokio::test(start_paused = true)]
async fn a_recovery_code_unlocks_once() {
    let house = House::new();
    let (key, codes, inside) = house.enrolled("anna").await;
    let half = house.sign_in("anna").await.unwrap();
    for failure in 1..=10 {
        let refused = house.service.show_code(&knock(), half.token.expose(), "000000").await.unwrap_err();
        assert_eq!(refused, if failure < 10 { DoorError::WrongCode } else { DoorError::Locked });
    }
    assert_eq!(house.stage(&half.token), None, "the door is shut");
    assert_eq!(house.stage(&inside), Some(Stage::Inside), "who is inside is not thrown out by who guesses");
    assert_eq!(house.sign_in("anna").await, Err(DoorError::Refused));
    let code = house.code(&key);
    assert_eq!(house.service.step_up(&knock(), inside.expose(), &code).await, Err(DoorError::Locked));
    assert_eq!(house.service.step_up(&knock(), inside.expose(), codes[1].expose()).await, Err(DoorError::Locked));
    let recover = async |typed: &str| house.service.recover(&knock(), "anna", secret(PASSWORD), typed).await;
    assert_eq!(recover("0000-0000-0000-0000").await, Err(DoorError::Refused));
    let step = recover(codes[0].expose()).await.unwrap();
    assert_eq!(step.stage, Stage::Inside);
    assert_eq!(recover(codes[0].expose()).await, Err(DoorError::Refused), "it is used up");
    let half = house.sign_in("anna").await.unwrap();
    let typed = codes[1].expose().to_uppercase();
    assert_eq!(house.service.show_code(&knock(), half.token.expose(), &typed).await.unwrap().stage, Stage::Inside);
    let user = house.service.users(&Sight::All)[0].clone();
    assert_eq!(user.recovery.len(), RECOVERY_CODES - 2);
}

/// A restart signs everybody out, and forgets neither the last step, nor the failures, nor the recovery codes that are used.
#[tokio::test(start_paused = true)]
async fn a_restart_signs_out_and_forgets_nothing_else() {
    let mut house = House::new();
    let (key, codes, inside) = house.enrolled("anna").await;
    let half = house.sign_in("anna").await.unwrap();
    let code = house.code(&key);
    house.service.show_code(&knock(), half.token.expose(), &code).await.unwrap();
    house.service.recover(&knock(), "anna", secret(PASSWORD), codes[0].expose()).await.unwrap();
    for _ in 0..9 {
        let _ = house.service.sign_in(&knock(), "anna", secret("wrong")).await;
    }
    house.disk = house.disk.copied();
    house.service = open(&house.disk, house.clock);
    assert_eq!(house.stage(&inside), None);
    let half = house.sign_in("anna").await.unwrap();
    assert_eq!(house.service.show_code(&knock(), half.token.expose(), codes[0].expose()).await, Err(DoorError::Locked));
    assert_eq!(house.sign_in("anna").await, Err(DoorError::Refused));
    let again = house.service.recover(&knock(), "anna", secret(PASSWORD), codes[0].expose()).await;
    assert_eq!(again, Err(DoorError::Refused));
    house.service.recover(&knock(), "anna", secret(PASSWORD), codes[1].expose()).await.unwrap();
    let half = house.sign_in("anna").await.unwrap();
    assert_eq!(
        house.service.show_code(&knock(), half.token.expose(), &code).await,
        Err(DoorError::WrongCode),
        "a replay"
    );
}

/// A password that the daemon made opens the door, and nothing behind it before another one is chosen.
#[tokio::test(start_paused = true)]
async fn a_password_that_was_made_is_replaced_first() {
    let house = House::new();
    let new = NewUser { name: "anna".parse().unwrap(), role: Role::Read, tenant: None, password: None };
    let (_, made) = house.service.create_user(&operator(), new).await.unwrap();
    let made = made.unwrap();
    let step = house.service.sign_in(&knock(), "anna", made.clone()).await.unwrap();
    let key = house.service.enrolment(step.token.expose()).unwrap().key;
    let code = house.code(key.expose());
    let (step, _) = house.service.confirm_enrolment(&knock(), step.token.expose(), &code).await.unwrap();
    assert_eq!(step.stage, Stage::NewPassword);
    let choose =
        async |new: &str| house.service.choose_password(&knock(), step.token.expose(), None, secret(new)).await;
    assert!(matches!(choose("short").await, Err(DoorError::BadPassword(_))));
    assert!(matches!(choose(made.expose()).await, Err(DoorError::BadPassword(_))), "the same again");
    let inside = choose(PASSWORD).await.unwrap();
    assert_eq!((inside.stage, house.stage(&step.token)), (Stage::Inside, None));
    assert_eq!(house.service.sign_in(&knock(), "anna", made).await, Err(DoorError::Refused));
    assert_eq!(house.sign_in("anna").await.unwrap().stage, Stage::Code);
}

/// P18: a session ends after 15 minutes without use, after 12 hours in any case, and half a door after 15 minutes.
#[tokio::test(start_paused = true)]
async fn a_session_ends_by_itself() {
    let house = House::new();
    let (_, _, inside) = house.enrolled("anna").await;
    let half = house.sign_in("anna").await.unwrap().token;
    let minute = Duration::from_secs(60);
    for _ in 0..14 {
        tokio::time::advance(minute).await;
        assert!(house.service.goes_on(inside.expose()) && house.stage(&half).is_some());
        house.service.seen(inside.expose()).unwrap();
    }
    tokio::time::advance(minute).await;
    assert_eq!((house.stage(&half), house.stage(&inside)), (None, Some(Stage::Inside)));
    // To ask whether it goes on is not to use it.
    for _ in 0..15 {
        tokio::time::advance(minute).await;
        house.service.goes_on(inside.expose());
    }
    assert_eq!(house.stage(&inside), None);
    let (_, _, inside) = house.enrolled("ben").await;
    let mut minutes = 0;
    while house.stage(&inside).is_some() {
        tokio::time::advance(minute * 10).await;
        minutes += 10;
        assert!(minutes <= 12 * 60);
    }
    assert_eq!(minutes, 12 * 60);
}

/// P18: another password, another role, another second factor and a removal end every session; a sign-out ends its own.
#[tokio::test(start_paused = true)]
async fn a_session_ends_with_what_it_stands_on() {
    let house = House::new();
    let service = &house.service;
    let (_, _, inside) = house.enrolled("anna").await;
    let id = service.seen(inside.expose()).unwrap().user.id;
    let recover = async |name: &str, codes: &[Secret], used: usize| {
        service.recover(&knock(), name, secret(PASSWORD), codes[used].expose()).await.unwrap().token
    };
    let change = ChangedUser { role: Some(Role::Read), ..ChangedUser::default() };
    service.update_user(&operator(), id, change).await.unwrap();
    assert_eq!(house.stage(&inside), None, "another role");
    let (_, codes, inside) = house.enrolled("ben").await;
    let id = service.seen(inside.expose()).unwrap().user.id;
    let second = recover("ben", &codes, 0).await;
    let present = Some(secret(PASSWORD));
    let refused =
        service.choose_password(&knock(), second.expose(), Some(secret("wrong")), secret("another good one")).await;
    assert_eq!(refused, Err(DoorError::Refused));
    let third =
        service.choose_password(&knock(), second.expose(), present, secret("another good one")).await.unwrap().token;
    assert_eq!([&inside, &second].map(|token| house.stage(token)), [None, None], "another password");
    assert_eq!(house.stage(&third), Some(Stage::Inside));
    service.sign_out(&knock(), third.expose()).await.unwrap();
    assert_eq!(house.stage(&third), None);
    service
        .update_user(
            &operator(),
            id,
            ChangedUser { password: NewPassword::Given(secret(PASSWORD)), ..ChangedUser::default() },
        )
        .await
        .unwrap();
    let fourth = recover("ben", &codes, 1).await;
    service.reset_totp(&operator(), id).await.unwrap();
    assert_eq!(house.stage(&fourth), None, "no second factor any more");
    let fifth = house.sign_in("ben").await.unwrap();
    assert_eq!(fifth.stage, Stage::Enrol);
    service.delete_user(&operator(), id).await.unwrap();
    assert_eq!(house.stage(&fifth.token), None);
    assert_eq!(house.sign_in("ben").await, Err(DoorError::Refused));
}

/// P18: a proof of the second factor is fresh for five minutes; a further one makes it fresh again, and counts as a guess when wrong.
#[tokio::test(start_paused = true)]
async fn a_fresh_proof_lasts_five_minutes() {
    let house = House::new();
    let (key, _, inside) = house.enrolled("anna").await;
    let fresh = || house.service.seen(inside.expose()).unwrap().fresh_for;
    assert!(fresh().is_some());
    tokio::time::advance(PROOF_LASTS).await;
    assert_eq!(fresh(), None);
    assert_eq!(house.service.enrolment(inside.expose()), Err(DoorError::StepUp), "another app asks for a fresh proof");
    assert_eq!(house.service.step_up(&knock(), inside.expose(), "000000").await, Err(DoorError::WrongCode));
    assert_eq!(fresh(), None);
    let code = house.code(&key);
    house.service.step_up(&knock(), inside.expose(), &code).await.unwrap();
    assert_eq!(fresh(), Some(PROOF_LASTS));
    assert_eq!(house.service.step_up(&knock(), inside.expose(), &code).await, Err(DoorError::WrongCode), "a replay");
    // Another app: the old key and the old codes are worth nothing.
    let other = house.service.enrolment(inside.expose()).unwrap().key;
    let typed = house.code(other.expose());
    let (step, _) = house.service.confirm_enrolment(&knock(), inside.expose(), &typed).await.unwrap();
    assert_eq!((step.stage, house.stage(&inside)), (Stage::Inside, None));
    let last = house.actions().await;
    assert_eq!(last[last.len() - 4..], ["user.sign_in_refused", "user.step_up", "user.sign_in_refused", "user.enrol"]);
}

/// Memory is bounded: a person has eight sessions at most, and the oldest goes.
#[tokio::test(start_paused = true)]
async fn a_person_has_so_many_sessions_and_no_more() {
    let house = House::new();
    let (_, _, inside) = house.enrolled("anna").await;
    let user = house.service.users(&Sight::All)[0].clone();
    for place in 0..sessions::PER_USER_MAX {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(house.stage(&inside).is_some(), "{place}");
        tokio::time::advance(Duration::from_secs(1)).await;
        house.service.begin(&user, Stage::Inside, true);
    }
    assert_eq!(house.service.people.sessions().len(), sessions::PER_USER_MAX);
    let mut others = Vec::new();
    for _ in 0..sessions::PER_USER_MAX {
        tokio::time::advance(Duration::from_millis(1)).await;
        others.push(house.service.begin(&user, Stage::Inside, true));
    }
    assert_eq!(house.stage(&inside), None);
    assert!(others.iter().all(|step| house.stage(&step.token).is_some()));
}

/// P18: a flood at the door waits in a bounded line, and is turned away beyond it; the runtime goes on meanwhile.
#[tokio::test]
async fn a_flood_at_the_door_is_turned_away_and_starves_nobody() {
    let house = House::new();
    let asked = hashing::WAITING_MAX * 4;
    let flood = (0..asked).map(|_| {
        let service = house.service.clone();
        tokio::spawn(async move { service.sign_in(&knock(), "nobody", secret(PASSWORD)).await })
    });
    let flood: Vec<_> = flood.collect();
    // Whatever the daemon does otherwise goes on while hashes are made: a turn of the runtime takes no hash's time.
    let mut turns = 0_u32;
    while !flood.iter().all(|one| one.is_finished()) {
        tokio::task::yield_now().await;
        turns += 1;
    }
    let (mut refused, mut busy) = (0, 0);
    for one in flood {
        match one.await.unwrap().unwrap_err() {
            DoorError::Refused => refused += 1,
            DoorError::NotNow(Error::Busy(_)) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused, busy), (hashing::WAITING_MAX, asked - hashing::WAITING_MAX));
    assert!(turns as usize > asked, "{turns} turns of the runtime");
}
