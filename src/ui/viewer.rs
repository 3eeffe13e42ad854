//! Who is looking at the dashboard.

use crate::model::Role;
use crate::mouth::caller::Caller;

/// Somebody who has been let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    name: String,
    caller: Caller,
    has_session: bool,
}

/// How old the proof of a person's second factor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A few minutes at most: enough for what asks for a fresh one.
    Fresh,
    /// Older.
    Stale,
}

impl Viewer {
    /// A person with a session of his own.
    pub fn person(name: impl Into<String>, caller: Caller, proof: Proof) -> Self {
        let caller = match proof {
            Proof::Fresh => caller.proved(),
            Proof::Stale => caller,
        };
        Viewer { name: name.into(), caller, has_session: true }
    }

    /// Whoever may open `admin.sock`.
    pub fn operator(caller: Caller) -> Self {
        Viewer { name: "operator".to_owned(), caller, has_session: false }
    }

    /// The same, who has shown his second factor just now.
    pub fn proved(self) -> Self {
        Viewer { caller: self.caller.proved(), ..self }
    }

    /// Whether the viewer has proved a moment ago who he is.
    pub fn is_proved(&self) -> bool {
        self.caller.is_proved()
    }

    /// What the viewer is called on each page.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In whose name the API is asked.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the viewer may do.
    pub fn role(&self) -> Role {
        self.caller.role()
    }

    /// Whether the viewer may do what asks for this role.
    pub fn may(&self, role: Role) -> bool {
        self.caller.role().covers(role)
    }

    /// Whether there is a session that the viewer can end.
    pub fn has_session(&self) -> bool {
        self.has_session
    }
}
