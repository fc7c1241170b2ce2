# Format everything.
fmt:
    cargo fmt --all

# Formatting, lints; warnings are errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --test e2e --locked -- -D warnings

# Unit and property tests (Redis and PostgreSQL are started where needed).
test:
    cargo test --workspace --locked

# Scenarios against real processes, Redis and PostgreSQL.
e2e:
    ./test e2e

# Nothing lost while everything fails: KURIR_SOAK_MINUTES=60 just soak (10 otherwise); KURIR_SEED=n for the same faults again.
soak:
    KURIR_SOAK_MINUTES="${KURIR_SOAK_MINUTES:-10}" ./test e2e soak --nocapture

# Tracked messages in virtual time: KURIR_SEEDS=100000 just simulate (20000 otherwise); KURIR_SEED=n tells one seed step by step.
simulate:
    KURIR_SEEDS="${KURIR_SEEDS:-20000}" cargo test --locked -p kurir-e2e --lib simulation -- --nocapture

# Fuzz a target of crates/protocol for a minute (needs cargo-fuzz and nightly).
fuzz target="decode":
    cd crates/protocol && cargo +nightly fuzz run {{target}} -- -max_total_time=60

# The flake's binary and images built twice, with the host's toolchain: the same, bit for bit? (docs/nix.md)
reproducible:
    nix/check twice

# Load: just bench flood --pairs 1000 --window 8 --vs forwarder
bench *args:
    cargo run --release --locked -- bench {{args}}

# Everything in one process: just up --relays 3
up *args:
    cargo run --release --locked -- up {{args}}
