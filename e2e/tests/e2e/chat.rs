//! `kurir chat` in a pipe.

kurir_e2e::shows! {}
