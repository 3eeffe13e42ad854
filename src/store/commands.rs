//! Commands on disk: orders of dialects that are accepted in one commit and carried out in a later one.
//!
//! What is accepted is carried out: what a crash left is done when the store is opened next, in the order in which it came,
//! before anything else. An order holds credentials, so it leaves the row once it is carried out; what remains says what became
//! of it. The work and the row change in one transaction.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use crate::model::audit::{Actor, Who};
use crate::model::{Command, CommandId, CommandState, Order, TenantId, Timestamp};

use super::op::Rejected;
use super::reader::{ReadError, Snapshot};
use super::tables::{Read, Records};
use super::writer::{ApplyError, Batch, Op};
use super::{audit, codec, registrations};

/// Commands that are kept; the oldest that have ended make room for new ones.
pub const KEPT_MAX: u64 = if cfg!(test) { 100 } else { 10_000 };

/// A command, as it lies on disk under its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CommandRow {
    pub(super) command: Command,
    /// What is to be done, and on whose behalf; gone once it has been.
    pub(super) work: Option<(Order, Actor)>,
}

/// Accepts a command.
pub struct AcceptCommand {
    /// Whose registrations it is about.
    pub tenant: TenantId,
    /// The dialect that takes it.
    pub dialect: String,
    /// What is to be done.
    pub order: Order,
    /// On whose behalf.
    pub actor: Actor,
    /// For its name.
    pub chance: u128,
}

/// Why a command was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// There is no such tenant any more.
    UnknownTenant,
    /// [`KEPT_MAX`] commands wait.
    TooMany,
}

impl Op for AcceptCommand {
    type Answer = Result<Command, NotAccepted>;

    fn bytes(&self) -> usize {
        4096
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Self::Answer, ApplyError> {
        let AcceptCommand { tenant, dialect, order, actor, chance } = self;
        if batch.catalog().tenant(&tenant).is_none() {
            return Ok(Err(NotAccepted::UnknownTenant));
        }
        if !make_room(batch)? {
            return Ok(Err(NotAccepted::TooMany));
        }
        let number = batch.numbers.next_command;
        batch.numbers.next_command += 1;
        let command = Command {
            id: CommandId::new(number, chance),
            tenant,
            dialect,
            state: CommandState::Processing,
            created: batch.now,
            ended: None,
            error: None,
            message: None,
        };
        batch.commands()?.put(number, &CommandRow { command: command.clone(), work: Some((order, actor)) })?;
        Ok(Ok(command))
    }
}

/// Carries out a command, unless that has been done.
pub struct RunCommand {
    /// Which.
    pub id: CommandId,
}

impl Op for RunCommand {
    type Answer = ();

    fn bytes(&self) -> usize {
        4096
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        let number = self.id.number();
        let Some(CommandRow { mut command, work }) = get(batch, number)? else { return Ok(()) };
        let Some((order, actor)) = work else { return Ok(()) };
        let verb = match &order {
            Order::Register { .. } => "created",
            Order::Change { .. } => "updated",
            Order::Deregister { .. } => "deleted",
        };
        if !still_stands(batch, &actor) {
            command.state = CommandState::Cancelled;
            command.error = Some("whoever gave this command has been removed since, or may do less".into());
        } else {
            match registrations::carry_out(batch, &command.tenant, &command.dialect, order)? {
                Ok((registration, deeds)) => {
                    deeds.iter().try_for_each(|deed| audit::note(batch, &actor, deed))?;
                    command.state = CommandState::Completed;
                    command.message = Some(format!("subscription {} was {verb}", registration.serial));
                }
                Err(rejected) => {
                    command.state = CommandState::Failed;
                    command.error = Some(in_words(rejected).into());
                }
            }
        }
        command.ended = Some(batch.now);
        Ok(batch.commands()?.put(number, &CommandRow { command, work: None })?)
    }
}

/// A key may be deleted, or given less, between an order and its execution.
fn still_stands(batch: &Batch<'_>, actor: &Actor) -> bool {
    match &actor.who {
        Who::Operator { .. } | Who::System => true,
        Who::Key { id, role, tenant } => {
            batch.catalog().key(*id).is_some_and(|key| key.role.covers(*role) && key.tenant == *tenant)
        }
        Who::User { id, role, tenant, .. } => {
            batch.catalog().user(*id).is_some_and(|user| user.role.covers(*role) && user.tenant == *tenant)
        }
        Who::Stranger => false,
    }
}

fn in_words(rejected: Rejected) -> &'static str {
    match rejected {
        Rejected::Exists => "there is one already",
        Rejected::Unknown => "the subscription has been deleted meanwhile",
        Rejected::UnknownTenant => "the tenant has been deleted meanwhile",
        Rejected::UnknownDestination | Rejected::Stale => "the subscription was changed by somebody else; try again",
        Rejected::UnknownSigningKey => "the signing key has been deleted meanwhile",
        Rejected::SignatureKeyExists
        | Rejected::TooManySigningKeys
        | Rejected::TenantNesting
        | Rejected::TenantInUse
        | Rejected::TenantRemembered
        | Rejected::SpellingTaken
        | Rejected::NameTaken
        | Rejected::LastAdmin => "it is in the way of something else",
    }
}

/// Drops commands that ended before a moment.
pub struct DropCommands {
    /// Which moment.
    pub before: Timestamp,
}

impl Op for DropCommands {
    type Answer = ();

    fn bytes(&self) -> usize {
        1024
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        drop_where(batch, |command| command.ended.is_some_and(|ended| ended < self.before))
    }
}

/// Drops the commands of a tenant that is deleted: whoever takes its id one day does not see them, and does not have them done.
pub(super) fn forget_tenant(batch: &mut Batch<'_>, tenant: &TenantId) -> Result<(), ApplyError> {
    drop_where(batch, |command| command.tenant == *tenant)
}

fn drop_where(batch: &Batch<'_>, is_dropped: impl Fn(&Command) -> bool) -> Result<(), ApplyError> {
    let mut rows = batch.commands()?;
    let mut dropped = Vec::new();
    for entry in rows.iter()? {
        let (number, record) = entry?;
        // A damaged one goes when it is the oldest and room is needed.
        let Ok(row) = codec::decode::<CommandRow>(rows.place(number.value()), record.value()) else { continue };
        if is_dropped(&row.command) {
            dropped.push(number.value());
        }
    }
    for number in dropped {
        rows.remove(number)?;
    }
    Ok(())
}

/// Drops the oldest command where there is no room for one more. Answers whether there is room then.
fn make_room(batch: &Batch<'_>) -> Result<bool, ApplyError> {
    let mut rows = batch.commands()?;
    if rows.len()? < KEPT_MAX {
        return Ok(true);
    }
    // They end in the order in which they came.
    let oldest = match rows.first()? {
        Some((number, record)) => {
            let row = codec::decode::<CommandRow>(rows.place(number.value()), record.value());
            // What is damaged is never carried out.
            row.map_or(true, |row| row.work.is_none()).then(|| number.value())
        }
        None => None,
    };
    match oldest {
        Some(number) => Ok(rows.remove(number)?.is_some()),
        None => Ok(false),
    }
}

/// The command of this number; none when its record is damaged, for nobody knows what it was to do.
fn get(batch: &Batch<'_>, number: u64) -> Result<Option<CommandRow>, ApplyError> {
    let rows = batch.commands()?;
    match rows.get(number)? {
        Some(record) => Ok(codec::decode(rows.place(number), record.value()).ok()),
        None => Ok(None),
    }
}

/// The commands that have been accepted and not carried out, in the order in which they came.
pub(super) fn left_over(rows: &Read<u64>) -> Result<Vec<CommandId>, ApplyError> {
    let mut left = Vec::new();
    for entry in rows.iter()? {
        let (number, record) = entry?;
        let Ok(row) = codec::decode::<CommandRow>(rows.place(number.value()), record.value()) else { continue };
        if row.work.is_some() {
            left.push(row.command.id);
        }
    }
    Ok(left)
}

impl Snapshot {
    /// A command.
    pub fn command(&self, id: CommandId) -> Result<Option<Command>, ReadError> {
        let number = id.number();
        let Some(record) = self.commands.get(number)? else { return Ok(None) };
        let row: CommandRow = codec::decode(self.commands.place(number), record.value())?;
        // Of the name only the number leads here; the rest has to be right as well.
        Ok(Some(row.command).filter(|command| command.id == id))
    }

    /// Whether commands ended before a moment that are still kept.
    pub fn commands_have_aged(&self, before: Timestamp) -> Result<bool, ReadError> {
        for entry in self.commands.iter()? {
            let (number, record) = entry?;
            // A damaged one keeps nobody from dropping the others.
            let Ok(row) = codec::decode::<CommandRow>(self.commands.place(number.value()), record.value()) else {
                continue;
            };
            if row.command.ended.is_some_and(|ended| ended < before) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
