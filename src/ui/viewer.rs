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

impl Viewer {
    /// A person with a session of his own.
    pub fn person(name: impl Into<String>, caller: Caller) -> Self {
        Viewer { name: name.into(), caller, has_session: true }
    }

    /// Whoever may open `admin.sock`.
    pub fn operator(caller: Caller) -> Self {
        Viewer { name: "operator".to_owned(), caller, has_session: false }
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
