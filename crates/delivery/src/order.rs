//! In which order one connection's messages are stored. Plain data.

/// A sender's order: after a refusal nothing of it is stored before what was refused.
#[derive(Debug, Default)]
pub struct Order {
    /// What was sent in an earlier one is refused.
    turn: u32,
    /// The id that has to come next.
    refused: Option<Box<str>>,
}

impl Order {
    /// The turn that the message belongs to; none: another one has to come first.
    pub fn admit(&mut self, id: &str) -> Option<u32> {
        if self.refused.as_ref().is_some_and(|refused| **refused != *id) {
            return None;
        }
        self.refused = None;
        Some(self.turn)
    }

    /// A message of `turn` finds no place; unless one before it was refused meanwhile, it is the one to come again.
    pub fn hold(&mut self, turn: u32, id: &str) {
        if turn == self.turn && self.refused.is_none() {
            self.refused = Some(id.into());
        }
    }

    /// A message of `turn` was refused. The first of its turn is the one to come again.
    pub fn refuse(&mut self, turn: u32, id: &str) {
        if turn == self.turn {
            self.turn = self.turn.wrapping_add(1);
            self.refused = Some(id.into());
        }
    }

    /// A message was refused for good: if it is the one that had to come again, others may come now.
    pub fn settle(&mut self, id: &str) {
        if self.refused.as_deref() == Some(id) {
            self.refused = None;
        }
    }

    /// Whether what was sent in `turn` is refused.
    pub fn is_over(&self, turn: u32) -> bool {
        turn != self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_nothing_is_admitted_before_what_was_refused() {
        let mut order = Order::default();
        let turn = order.admit("1").unwrap();
        assert_eq!(order.admit("2"), Some(turn));
        order.refuse(turn, "1");
        // The rest of that turn is refused with it, and changes nothing.
        order.refuse(turn, "2");
        assert_eq!(order.admit("3"), None);
        assert_eq!(order.admit("2"), None);
        let again = order.admit("1").unwrap();
        assert_ne!(again, turn);
        assert_eq!(order.admit("2"), Some(again));
    }

    #[test]
    fn what_is_refused_for_good_holds_up_nothing() {
        let mut order = Order::default();
        let turn = order.admit("1").unwrap();
        order.refuse(turn, "1");
        order.settle("2");
        assert_eq!(order.admit("2"), None);
        order.settle("1");
        assert!(order.admit("2").is_some());
    }

    #[test]
    fn what_finds_no_place_does_not_go_before_what_was_refused_meanwhile() {
        let mut order = Order::default();
        let turn = order.admit("1").unwrap();
        assert_eq!(order.admit("5"), Some(turn));
        order.refuse(turn, "1");
        order.hold(turn, "5");
        assert_eq!(order.admit("5"), None);
        let again = order.admit("1").unwrap();
        order.hold(again, "6");
        assert_eq!(order.admit("7"), None);
        assert_eq!(order.admit("6"), Some(again));
    }
}
