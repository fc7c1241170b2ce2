//! The automaton.
