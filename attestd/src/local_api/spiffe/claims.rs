//! JSON as protobuf says it (google.protobuf.Struct).

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Value};

/// The claims of a JWT-SVID. Their depth is bounded by the reader of JSON, their size by that of the JWT-SVID.
pub(super) fn message(claims: Map<String, Value>) -> Struct {
    Struct { fields: claims.into_iter().map(|(name, claim)| (name, value(claim))).collect() }
}

fn value(of: Value) -> prost_types::Value {
    let kind = match of {
        Value::Null => Kind::NullValue(0),
        Value::Bool(of) => Kind::BoolValue(of),
        // protobuf knows no other number; a claim that is none of these in JSON is none here either
        Value::Number(of) => of.as_f64().map_or(Kind::NullValue(0), Kind::NumberValue),
        Value::String(of) => Kind::StringValue(of),
        Value::Array(of) => Kind::ListValue(ListValue { values: of.into_iter().map(value).collect() }),
        Value::Object(of) => Kind::StructValue(message(of)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_keep_their_kinds() {
        let claims = serde_json::json!({ "exp": 7, "sub": "a", "aud": ["b", null], "more": { "yes": true } });
        let Value::Object(claims) = claims else { panic!("an object") };
        let message = message(claims);
        let kind = |name: &str| message.fields[name].kind.clone().unwrap();
        assert_eq!((kind("exp"), kind("sub")), (Kind::NumberValue(7.0), Kind::StringValue("a".into())));
        let Kind::ListValue(audiences) = kind("aud") else { panic!("a list") };
        assert_eq!(
            audiences.values.iter().map(|value| value.kind.clone().unwrap()).collect::<Vec<_>>(),
            [Kind::StringValue("b".into()), Kind::NullValue(0)]
        );
        let Kind::StructValue(more) = kind("more") else { panic!("an object") };
        assert_eq!(more.fields["yes"].kind, Some(Kind::BoolValue(true)));
    }
}
