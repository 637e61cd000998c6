//! Laws that hold for any rules, watchers and documents, each shown on random ones.
//!
//! Single cases are beside the code.

#[cfg(test)]
mod any;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod delegation;
#[cfg(test)]
mod domain;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod rulings;
#[cfg(test)]
mod views;
