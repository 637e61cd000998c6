-- prosody 0.12 for bench/run: sign-in, presence, messages, and no more. FOLDER and PORT are written in.
run_as_root = true
daemonize = false
data_path = "@FOLDER@/data"
log = { { levels = { min = "error" }, to = "console" } }
network_backend = "epoll"
interfaces = { "127.0.0.1" }
c2s_ports = {}
c2s_direct_tls_ports = { @PORT@ }
s2s_ports = {}
modules_enabled = { "roster", "saslauth", "tls", "register_ibr" }
modules_disabled = { "s2s" }
authentication = "internal_hashed"
password_hash = "SHA-256"
default_iteration_count = 4096
allow_registration = true
ssl = { key = "@FOLDER@/key.pem", certificate = "@FOLDER@/cert.pem" }
c2s_direct_tls_ssl = { key = "@FOLDER@/key.pem", certificate = "@FOLDER@/cert.pem" }

VirtualHost "localhost"
