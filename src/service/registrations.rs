//! What dialects register, and the commands by which they may do so.

use std::sync::Arc;

use crate::model::audit::Actor;
use crate::model::schedule::Plan;
use crate::model::{Command, CommandId, Destination, Order, Registration, RegistrationChange, Retry, TenantId};
use crate::store::commands::{AcceptCommand, NotAccepted, RunCommand};
use crate::store::registrations::CarryOut;

use super::{Error, Service, created};

/// What errors call one.
const NOUN: &str = "subscription";

impl Service {
    /// A tenant's registrations of a dialect, in order of creation.
    pub fn registrations(&self, tenant: &TenantId, dialect: &str) -> Vec<Registration> {
        self.store.catalog().registrations(tenant, dialect)
    }

    /// Carries out an order at once. Answers the registration as it is from now on, or as it was before it was deleted.
    pub async fn carry_out(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        dialect: &str,
        order: Order,
    ) -> Result<Registration, Error> {
        self.check_order(tenant, dialect, &order)?;
        let op = CarryOut { tenant: tenant.clone(), dialect: dialect.to_owned(), order };
        created(self.store.steer(actor, op).await?.answer, NOUN)
    }

    /// Accepts an order: it is on disk when this returns, and is carried out after that, also when the daemon ends meanwhile.
    pub async fn accept_command(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        dialect: &str,
        order: Order,
    ) -> Result<Command, Error> {
        self.check_order(tenant, dialect, &order)?;
        let chance = u128::from_be_bytes(self.chance_of());
        let (tenant, dialect, actor) = (tenant.clone(), dialect.to_owned(), actor.clone());
        let accepted = self.store.submit(AcceptCommand { tenant, dialect, order, actor, chance }).await?.answer;
        let command = accepted.map_err(|refused| match refused {
            NotAccepted::UnknownTenant => Error::NotFound("tenant"),
            NotAccepted::TooMany => Error::Conflict("too many commands wait to be carried out; try again later".into()),
        })?;
        // When this fails the store has, and carries the command out when it is opened again.
        let _ = self.store.record(RunCommand { id: command.id });
        Ok(command)
    }

    /// A command that a dialect has taken for a tenant.
    pub async fn command(&self, tenant: &TenantId, dialect: &str, id: CommandId) -> Result<Command, Error> {
        let found = self.store.read(move |snapshot| snapshot.command(id)).await?;
        found
            .filter(|command| command.tenant == *tenant && command.dialect == dialect)
            .ok_or(Error::NotFound("command"))
    }

    /// What an order alone cannot say: whether its event type is known, and deliveries could be made to its destination.
    fn check_order(&self, tenant: &TenantId, dialect: &str, order: &Order) -> Result<(), Error> {
        match order {
            Order::Register { destination, subscription, .. } => {
                self.check_pattern(&subscription.pattern)?;
                self.check(destination)
            }
            Order::Change { subscription, change } => {
                let present = self.registrations(tenant, dialect);
                let before = present.iter().find(|it| it.subscription.id == *subscription);
                let before = &before.ok_or(Error::NotFound(NOUN))?.destination;
                self.check_change(before, change)
            }
            Order::Deregister { .. } => Ok(()),
        }
    }

    fn check_change(&self, before: &Arc<Destination>, change: &RegistrationChange) -> Result<(), Error> {
        if let Some(pattern) = &change.pattern {
            self.check_pattern(pattern)?;
        }
        let after = change.of_destination(before);
        if after.url == before.url { Ok(()) } else { self.check(&after) }
    }

    /// How many attempts a delivery gets in all, by this.
    pub fn attempts_max(&self, retry: &Retry) -> u32 {
        let schedule = match &retry.plan {
            Plan::Default | Plan::Delays(_) => &self.settings.schedule,
            Plan::Named(name) => name,
        };
        let known = &self.settings.schedules;
        let named = known.get(schedule).or_else(|| known.get(&self.settings.schedule));
        let resolved = named.and_then(|named| retry.resolve(named).ok());
        resolved.or_else(|| named.cloned()).map_or(1, |schedule| schedule.attempts_max())
    }
}
