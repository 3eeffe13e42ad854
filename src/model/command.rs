//! Commands: orders that were accepted and are carried out after the answer, and what became of them.

use serde::{Deserialize, Serialize};

use super::{CommandId, TenantId, Timestamp};

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CommandState {
    /// It has been accepted.
    Processing,
    /// It has been carried out.
    Completed,
    /// It could not be carried out.
    Failed,
    /// It was not carried out any more: whoever gave it has lost the right to.
    Cancelled,
}

/// A command, as it is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its name outside.
    pub id: CommandId,
    /// Whose registrations it is about.
    pub tenant: TenantId,
    /// The dialect that took it.
    pub dialect: String,
    /// Where it stands.
    pub state: CommandState,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it was carried out, or was found not to be any more.
    pub ended: Option<Timestamp>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// What was done.
    pub message: Option<String>,
}
