//! The id of an outage, as documents carry it.

use serde::{Serialize, Serializer};

/// Largest number that is one of its own in JavaScript (`Number.MAX_SAFE_INTEGER`): a map client reads the next ones as others.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// Number of an outage. In JSON a number, and beyond ±(2^53 − 1) a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutageId(pub i64);

impl Serialize for OutageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.unsigned_abs() <= MAX_SAFE {
            serializer.serialize_i64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_that_javascript_would_mistake_for_another_is_a_string() {
        for (id, expected) in [
            (0, json!(0)),
            (-7, json!(-7)),
            (9_007_199_254_740_991, json!(9_007_199_254_740_991_i64)),
            (9_007_199_254_740_992, json!("9007199254740992")),
            (9_007_199_254_740_993, json!("9007199254740993")),
            (-9_007_199_254_740_992, json!("-9007199254740992")),
            (i64::MAX, json!("9223372036854775807")),
            (i64::MIN, json!("-9223372036854775808")),
        ] {
            assert_eq!(serde_json::to_value(OutageId(id)).unwrap(), expected);
        }
    }
}
