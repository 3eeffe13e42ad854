//! People: who may sign in to the dashboard, for which tenant, to do what, and how they prove who they are.
//!
//! A person has a password and a second factor (S1.4): codes of an authenticator app (TOTP, RFC 6238: SHA-1, six digits, 30
//! seconds, one step of play), and ten recovery codes for the day on which the app is lost. Whoever has no second factor yet
//! must enrol one first (S1.5, decision D20).
//!
//! What is guessed wrong is counted. [`Failures`] says when a login is locked and what is forgiven: wrong passwords with the next
//! full sign-in, wrong codes one a day, however often the person signs in. So whoever knows the password tries at most 375
//! codes a year, each right with three chances in a million: 0.12 %.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::id::{base32, unbase32};
use super::{Invalid, Role, Secret, TenantId, Timestamp};

/// A person's id: `usr_` and ten characters of base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserId([u8; 6]);

/// For how long a proof of the second factor counts, unless the configuration says otherwise.
pub const PROOF_LASTS: Duration = Duration::from_secs(5 * 60);

const PREFIX: &str = "usr_";

impl UserId {
    /// From six bytes of chance.
    pub fn from_chance(bytes: [u8; 6]) -> Self {
        UserId(bytes)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base32(&self.0))
    }
}

impl FromStr for UserId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = text.strip_prefix(PREFIX).and_then(unbase32);
        bytes.map(UserId).ok_or_else(|| Invalid::new("not a person's id: usr_ and ten characters, copied whole"))
    }
}

/// The name that a person signs in with: 1 to 64 of `a-z0-9._@+-`, read without regard to case. One name is one person in the
/// whole installation, whatever his tenant: the login page asks for no tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserName(String);

impl UserName {
    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(UserName(text.to_ascii_lowercase()))
        } else {
            Err(Invalid::new("a login name is 1 to 64 of a-z 0-9 . _ @ + -"))
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Someone who may sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Given by the daemon.
    pub id: UserId,
    /// What he signs in with.
    pub name: UserName,
    /// What he may do: `read`, `operate` or `admin`.
    pub role: Role,
    /// The one tenant whose things he sees; `None` for all.
    pub tenant: Option<TenantId>,
    /// When he was added.
    pub created: Timestamp,
    /// Opens the first half of the door.
    pub password: PasswordHash,
    /// Whether the password was made by the daemon and shown to somebody: its person must choose another one first of all.
    pub one_time: bool,
    /// Opens the second half; `None` before the enrolment.
    pub totp: Option<Totp>,
    /// The recovery codes that are left.
    pub recovery: Vec<RecoveryDigest>,
    /// What was guessed wrong.
    pub failures: Failures,
    /// Which sign-ins stand: it moves on when the password, the second factor or the role changes, and with that every session
    /// of before ends.
    pub stamp: u32,
}

impl User {
    /// The role of this name, as far as people have it.
    pub fn role_of(text: &str) -> Result<Role, Invalid> {
        match text.parse() {
            Ok(role @ (Role::Read | Role::Operate | Role::Admin)) => Ok(role),
            Ok(Role::Ingest) | Err(_) => Err(Invalid::new("a person's role is one of read, operate, admin")),
        }
    }

    /// Whether he administers the whole installation.
    pub fn is_house_admin(&self) -> bool {
        self.tenant.is_none() && self.role == Role::Admin
    }
}

/// A password as it is stored: argon2id, as OWASP's password storage cheat sheet asks (19 MiB, two passes, one lane).
///
/// What it was made with stands beside it, so that these numbers may grow.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    salt: [u8; 16],
    digest: [u8; 32],
}

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

impl PasswordHash {
    /// What a name that nobody has is held against, so that it costs what a wrong password costs.
    pub const NOBODY: PasswordHash =
        PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, salt: [0; 16], digest: [0; 32] };

    /// Hashes a password. This takes 19 MiB and some tens of milliseconds: never on the runtime's own thread.
    pub fn of(password: &Secret, salt: [u8; 16]) -> Self {
        let digest = argon2id(MEMORY_KIB, PASSES, password, &salt);
        PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, salt, digest }
    }

    /// Whether this is the password, compared in constant time. Costs what [`PasswordHash::of`] costs.
    pub fn is_of(&self, password: &Secret) -> bool {
        self.digest.ct_eq(&argon2id(self.memory_kib, self.passes, password, &self.salt)).into()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

fn argon2id(memory_kib: u32, passes: u32, password: &Secret, salt: &[u8]) -> [u8; 32] {
    let params =
        Params::new(memory_kib, passes, 1, Some(32)).expect("the costs are those that stand here, or were sealed here");
    let mut digest = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.expose().as_bytes(), salt, &mut digest)
        .expect("a password is shorter than 4 GB, a salt has 16 bytes, a digest 32");
    digest
}

/// A password's characters, at least: PCI DSS 8.3.6.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// A password's bytes, at most.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// The password, if it will do for this name.
pub fn password_of(password: Secret, name: &UserName) -> Result<Secret, Invalid> {
    let text = password.expose();
    if text.chars().count() < PASSWORD_CHARS_MIN || text.len() > PASSWORD_BYTES_MAX {
        return Err(Invalid(format!("a password is {PASSWORD_CHARS_MIN} to {PASSWORD_BYTES_MAX} characters")));
    }
    let lower = text.to_lowercase();
    let plain = lower.replace(name.as_str(), "");
    let mut others: Vec<_> = plain.chars().collect();
    others.sort_unstable();
    others.dedup();
    if others.len() < 4 {
        return Err(Invalid::new("a password is more than the login name and a few characters over and over"));
    }
    Ok(password)
}

/// A password made of 15 bytes of chance: 24 characters in groups of six.
pub fn password_from(chance: [u8; 15]) -> Secret {
    Secret::new(grouped(&base32(&chance), 6))
}

/// How far a second factor is enrolled and used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// What the app and the daemon share.
    pub key: TotpKey,
    /// The last step whose code was accepted; it and everything before is accepted no more.
    pub step: u64,
}

/// What an authenticator app and the daemon share: 20 bytes, in base32 as the apps want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotpKey(Secret);

/// Seconds for which a code stands.
pub const TOTP_STEP_SECONDS: u64 = 30;
const TOTP_KEY_BYTES: usize = 20;
/// The product, as the app lists it.
const TOTP_ISSUER: &str = "Postrider";

impl TotpKey {
    /// From twenty bytes of chance.
    pub fn from_chance(chance: [u8; TOTP_KEY_BYTES]) -> Self {
        TotpKey(Secret::new(totp_rs::Secret::new_stack(chance).to_base32()))
    }

    /// The key as a person types it into an app.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The key as an app reads it from a QR code: `otpauth://totp/…`.
    pub fn url(&self, name: &UserName) -> Secret {
        let url = self.totp(name.as_str()).to_url();
        Secret::new(url.expect("a login name is not empty and has no colon"))
    }

    /// The step that a code belongs to: the one of `now`, the one before or the one after.
    pub fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        self.totp("").check(code, now.as_secs())
    }

    /// The code of a moment, for whoever stands in for the app.
    pub fn code_at(&self, at: Timestamp) -> String {
        self.totp("").generate(at.as_secs()).to_string()
    }

    fn totp(&self, name: &str) -> totp_rs::Totp {
        let key = totp_rs::Secret::try_from_base32(self.0.expose());
        let key = key.expect("a key is made of bytes, and its record is sealed");
        totp_rs::Builder::new()
            .with_secret(key)
            .with_skew(1)
            .with_step_duration(TOTP_STEP_SECONDS)
            .with_digits(6)
            .with_algorithm(totp_rs::Algorithm::SHA1)
            .with_issuer(Some(TOTP_ISSUER))
            .with_account_name(name)
            .build_noncompliant()
    }
}

/// How many recovery codes an enrolment gives.
pub const RECOVERY_CODES: usize = 10;

/// A recovery code as it is stored. It has 80 bits of chance, so one round of SHA-256 keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryDigest([u8; 32]);

impl RecoveryDigest {
    /// A new code from ten bytes of chance, four groups of four characters; and what is kept of it.
    pub fn generate(chance: [u8; 10]) -> (Secret, RecoveryDigest) {
        let text = base32(&chance);
        (Secret::new(grouped(&text, 4)), RecoveryDigest(Sha256::digest(&text).into()))
    }

    /// What would be kept of a code as it was typed; `None` when it is none.
    pub fn of(typed: &str) -> Option<Self> {
        let text: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').take(17).collect();
        let chance: [u8; 10] = unbase32(&text)?;
        Some(RecoveryDigest(Sha256::digest(base32(&chance)).into()))
    }

    /// Takes this code out of those that are left. Compared in constant time, all of them.
    pub fn take_from(self, left: &mut Vec<RecoveryDigest>) -> bool {
        let mut place = None;
        for (at, digest) in left.iter().enumerate() {
            if digest.0.ct_eq(&self.0).into() {
                place = Some(at);
            }
        }
        place.map(|place| left.remove(place)).is_some()
    }
}

impl fmt::Debug for RecoveryDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryDigest(***)")
    }
}

/// What was guessed wrong since it was last forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failures {
    passwords: u8,
    codes: u8,
    /// Since when no wrong code has been forgiven.
    since: Timestamp,
}

/// What was guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// The password.
    Password,
    /// A code of the app, or a recovery code.
    Code,
}

impl Factor {
    /// The word for it in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Factor::Password => "password",
            Factor::Code => "code",
        }
    }
}

/// How many failures lock a login.
pub const FAILURES_MAX: u8 = 10;
/// How long one wrong code stays counted.
const CODE_FORGIVEN_AFTER: Duration = Duration::from_secs(24 * 3600);

impl Failures {
    /// Whether the login is locked.
    pub fn lock(self) -> bool {
        self.count() >= FAILURES_MAX
    }

    /// How many count.
    pub fn count(self) -> u8 {
        self.passwords.saturating_add(self.codes)
    }

    /// Counts one more.
    pub fn note(&mut self, factor: Factor, now: Timestamp) {
        match factor {
            Factor::Password => self.passwords = self.passwords.saturating_add(1),
            Factor::Code => {
                if self.codes == 0 {
                    self.since = now;
                }
                self.codes = self.codes.saturating_add(1);
            }
        }
    }

    /// The person has signed in.
    pub fn forgive(&mut self, now: Timestamp) {
        self.passwords = 0;
        let (passed, day) = (now.since(self.since).as_millis(), CODE_FORGIVEN_AFTER.as_millis());
        let days = u8::try_from(passed / day).unwrap_or(u8::MAX).min(self.codes);
        self.codes -= days;
        self.since = self.since.after(CODE_FORGIVEN_AFTER * u32::from(days));
    }

    /// Somebody who may has unlocked the login.
    pub fn clear(&mut self) {
        *self = Failures::default();
    }
}

/// Text in groups, for whoever copies it by hand.
fn grouped(text: &str, size: usize) -> String {
    let groups: Vec<_> = text.as_bytes().chunks(size).map(String::from_utf8_lossy).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> UserName {
        "Anna@Example.com".parse().unwrap()
    }

    #[test]
    fn a_login_name_has_no_case() {
        assert_eq!(name().as_str(), "anna@example.com");
        for wrong in ["", "a b", "a:b", "ä", &"a".repeat(65), "a\n"] {
            assert!(wrong.parse::<UserName>().is_err(), "{wrong}");
        }
        let id = UserId::from_chance([7; 6]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("usr_1".parse::<UserId>().is_err() && id.to_string()[4..].parse::<UserId>().is_err());
    }

    /// P18: a password is kept as an argon2id hash, which agrees with the reference implementation's.
    #[test]
    fn a_password_is_kept_as_argon2id() {
        let password = Secret::new("correct horse battery");
        let hash = PasswordHash::of(&password, [1; 16]);
        assert!(hash.is_of(&password));
        assert!(!hash.is_of(&Secret::new("correct horse batterx")));
        assert!(!PasswordHash::NOBODY.is_of(&password));
        assert_ne!(hash, PasswordHash::of(&password, [2; 16]));
        assert_eq!(format!("{hash:?}"), "PasswordHash(***)");
        // phc-winner-argon2, src/test.c: two passes, 2^16 KiB, one lane.
        let vector = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        let digest = argon2id(65_536, 2, &Secret::new("password"), b"somesalt");
        assert_eq!(crate::model::id::hex(&digest), vector);
    }

    #[test]
    fn a_password_is_long_and_not_the_name() {
        let will_do = |text: &str| password_of(Secret::new(text), &name()).is_ok();
        for text in ["correct horse", "zwölf Zeichen", &"0123456789abcdef".repeat(16)] {
            assert!(will_do(text), "{text}");
        }
        let (long, own) = ("x1y2".repeat(65), "Anna@Example.com1");
        for text in ["", "elf Zeichen", &long, own, "aaaaaaaaaaaaaaaa", "121212121212"] {
            assert!(!will_do(text), "{text}");
        }
        let made = password_from(*b"fifteen of them");
        assert!(will_do(made.expose()), "{}", made.expose());
        assert_eq!(made.expose().len(), 27);
    }

    /// P18: codes are those of RFC 6238, one step of play on each side and none more.
    #[test]
    fn a_code_stands_for_its_step_and_its_neighbours() {
        // RFC 6238, appendix B: the ASCII key 12345678901234567890, SHA-1; of its eight digits the last six.
        let key = TotpKey::from_chance(*b"12345678901234567890");
        for (second, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            let at = Timestamp::from_millis(second * 1000);
            assert_eq!(key.code_at(at), code);
            let step = second / TOTP_STEP_SECONDS;
            for (by, stands) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
                let now = Timestamp::from_millis((second as i64 + by * TOTP_STEP_SECONDS as i64).max(0) as u64 * 1000);
                let expected = (stands || now == Timestamp::ZERO).then_some(step);
                assert_eq!(key.step_of(code, now), expected, "{by} steps from {second}");
            }
        }
        for wrong in ["", "28708", "2870820", "+28708", "28708x", "２８７０８２"] {
            assert_eq!(key.step_of(wrong, Timestamp::from_millis(59_000)), None, "{wrong}");
        }
        let url = key.url(&name());
        let wanted =
            "otpauth://totp/Postrider:anna%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Postrider";
        assert_eq!(url.expose(), wanted);
    }

    #[test]
    fn a_recovery_code_is_taken_once() {
        let (code, digest) = RecoveryDigest::generate([3; 10]);
        let (_, other) = RecoveryDigest::generate([4; 10]);
        assert_eq!(code.expose().len(), 19);
        let typed = format!(" {} ", code.expose().to_uppercase().replace('-', " "));
        assert_eq!(RecoveryDigest::of(&typed), Some(digest));
        let mut left = vec![other, digest];
        assert!(digest.take_from(&mut left) && !digest.take_from(&mut left));
        assert_eq!(left, [other]);
        for wrong in ["", "1234", &"0".repeat(17), "iiii-llll-oooo-uuuu"] {
            assert_eq!(RecoveryDigest::of(wrong), None, "{wrong}");
        }
    }

    /// P18: ten failures lock; a sign-in forgives passwords, but codes only one a day.
    #[test]
    fn ten_failures_lock_and_codes_are_forgiven_slowly() {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let hours = |hours: u64| start.after(Duration::from_secs(hours * 3600));
        let mut failures = Failures::default();
        for _ in 0..9 {
            failures.note(Factor::Password, start);
        }
        assert!(!failures.lock());
        failures.forgive(start);
        assert_eq!(failures.count(), 0);
        for _ in 0..5 {
            failures.note(Factor::Password, start);
            failures.note(Factor::Code, start);
        }
        assert!(failures.lock());
        failures.forgive(hours(23));
        assert_eq!(failures.count(), 5);
        failures.forgive(hours(49));
        assert_eq!(failures.count(), 3);
        failures.forgive(hours(71));
        assert_eq!(failures.count(), 3, "a day is not counted twice");
        failures.forgive(hours(72));
        assert_eq!(failures.count(), 2);
        failures.clear();
        assert_eq!(failures, Failures::default());
    }

    /// P18: guess at most 0.2 % a year: somebody who knows the password and tries codes up to the last that does not lock,
    /// whatever the person himself does.
    #[test]
    fn a_year_of_guesses_finds_no_code() {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let (mut failures, mut guesses) = (Failures::default(), 0_u32);
        for hour in 0..365 * 24 {
            let now = start.after(Duration::from_secs(hour * 3600));
            while failures.count() < FAILURES_MAX - 1 {
                failures.note(Factor::Code, now);
                guesses += 1;
            }
            failures.forgive(now);
        }
        // Three steps stand at a time, of a million codes.
        let chance = f64::from(guesses) * 3.0 / 1_000_000.0;
        assert!(guesses > 300 && chance <= 0.002, "{guesses} guesses, {chance}");
    }
}
