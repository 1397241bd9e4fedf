//! Values of a context, as Cedar's evaluator holds them.
//!
//! `cedar_policy` makes a context from expressions, which it builds, evaluates and drops again for every question;
//! that took longer than the policies did. These values are what the evaluation of such expressions ends with.

use cedar_policy::{Entities, Entity, EntityUid, Request, Schema};
use cedar_policy_core::ast::{self, Value, ValueKind};
use cedar_policy_core::entities::{self, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;

/// A value of a context: text, number, truth, a set of one of these, or a record.
#[derive(Debug)]
pub(crate) struct Cedar(Value);

impl Cedar {
    pub(crate) fn new_string(value: &str) -> Self {
        Self(Value::from(value))
    }

    pub(crate) fn new_long(value: i64) -> Self {
        Self(Value::from(value))
    }

    pub(crate) fn new_bool(value: bool) -> Self {
        Self(Value::from(value))
    }

    pub(crate) fn new_set(values: impl IntoIterator<Item = Self>) -> Self {
        Self(Value::set(values.into_iter().map(|value| value.0), None))
    }

    /// A record whose field names are distinct by construction; of two of one name the last would stand.
    pub(crate) fn new_record<'n>(fields: impl IntoIterator<Item = (&'n str, Self)>) -> Self {
        Self(Value::record(fields.into_iter().map(|(name, value)| (name, value.0)), None))
    }
}

/// A request of this principal, action, resource and context; fitted to `schema`, where one is given.
pub(crate) fn request(
    [principal, action, resource]: [EntityUid; 3],
    context: Cedar,
    schema: Option<&Schema>,
) -> Result<Request, String> {
    let ValueKind::Record(fields) = context.0.value else { return Err("the context is no record".to_owned()) };
    let context = ast::Context::Value(fields);
    let schema = schema.map(AsRef::as_ref);
    let [principal, action, resource] = [principal, action, resource].map(|uid| (ast::EntityUID::from(uid), None));
    let request = ast::Request::new(principal, action, resource, context, schema, Extensions::all_available());
    request.map(Request::from).map_err(|e| e.to_string())
}

/// The entities of a question. Their parents have none themselves, so that what Cedar would look for, the parents
/// of parents, is already there.
pub(crate) fn entities(all: &[Entity]) -> Result<Entities, String> {
    let all = all.iter().map(|entity| entity.as_ref().clone());
    let complete = TCComputation::AssumeAlreadyComputed;
    let made = entities::Entities::from_entities(all, None::<&NoEntitiesSchema>, complete, Extensions::all_available());
    made.map(Entities::from).map_err(|e| e.to_string())
}
