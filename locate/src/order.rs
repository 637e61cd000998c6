//! The order in which the records of a domain count.

use std::fmt;
use std::str::FromStr;

/// Which records of a domain are looked up, and which first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// SRV; the domain's own addresses if that leads nowhere.
    #[default]
    SrvThenA,
    /// The domain's own addresses; SRV if they lead nowhere.
    AThenSrv,
    /// SRV alone.
    Srv,
    /// The domain's own addresses alone.
    A,
}

/// Where servers of a domain come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Srv,
    Addresses,
}

/// No order of lookups has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad order {got:?}: expected srv-then-a, a-then-srv, srv or a")]
pub struct BadOrder {
    /// What was got.
    pub got: String,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 4] = [Order::SrvThenA, Order::AThenSrv, Order::Srv, Order::A];

    pub(crate) fn sources(self) -> &'static [Source] {
        match self {
            Order::SrvThenA => &[Source::Srv, Source::Addresses],
            Order::AThenSrv => &[Source::Addresses, Source::Srv],
            Order::Srv => &[Source::Srv],
            Order::A => &[Source::Addresses],
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::SrvThenA => "srv-then-a",
            Order::AThenSrv => "a-then-srv",
            Order::Srv => "srv",
            Order::A => "a",
        })
    }
}

impl FromStr for Order {
    type Err = BadOrder;

    fn from_str(text: &str) -> Result<Order, BadOrder> {
        let named = Order::ALL.into_iter().find(|order| order.to_string() == text);
        named.ok_or_else(|| BadOrder { got: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in Order::ALL {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("SRV".parse::<Order>().is_err());
        assert_eq!(Order::default(), Order::SrvThenA);
    }
}
