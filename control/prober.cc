#include "control/prober.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <optional>

#include "control/probe.h"

namespace guideway {
namespace {

namespace asio = boost::asio;

class NetworkProber final : public Prober {
 public:
  explicit NetworkProber(asio::io_context& io)
      : io_(io), echo_v4_(NewEchoSocket(io)), echo_v6_(NewEchoSocket(io)) {}

  void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) override {
    Probe::Order order{io_, question, timeout, std::move(done)};
    std::visit([&](const auto& what) { New(std::move(order), what)->Start(); }, question.what);
  }

 private:
  using Pointer = std::shared_ptr<Probe>;

  Pointer New(Probe::Order order, const ProbeQuestion::Tcp&) {
    return NewTcpProbe(std::move(order));
  }
  Pointer New(Probe::Order order, const ProbeQuestion::Http& what) {
    if (what.security == ProbeQuestion::Http::Security::kNone) {
      return NewHttpProbe(std::move(order), what);
    }
    return NewHttpsProbe(
        std::move(order), what,
        what.security == ProbeQuestion::Http::Security::kTlsVerified ? Trusting() : Trustless());
  }
  Pointer New(Probe::Order order, const ProbeQuestion::Dns& what) {
    return NewDnsProbe(std::move(order), what);
  }
  Pointer New(Probe::Order order, const ProbeQuestion::Icmp&) {
    return NewIcmpProbe(std::move(order), order.question.address.is_v4() ? echo_v4_ : echo_v6_);
  }
  Pointer New(Probe::Order order, const ProbeQuestion::Udp& what) {
    return NewUdpProbe(std::move(order), what);
  }

  using Tls = asio::ssl::context;

  // Trusts whom the system trusts: OpenSSL's own directory, or SSL_CERT_DIR and SSL_CERT_FILE. Not
  // by SSL_CTX_set_default_verify_paths, which has the whole directory read at every handshake.
  Tls& Trusting() {
    if (!trusting_.has_value()) {
      SSL_CTX* tls = Make(&trusting_).native_handle();
      SSL_CTX_set_default_verify_dir(tls);
      SSL_CTX_set_default_verify_file(tls);
    }
    return *trusting_;
  }
  // Trusts nobody, and looks nowhere.
  Tls& Trustless() { return trustless_.has_value() ? *trustless_ : Make(&trustless_); }

  static Tls& Make(std::optional<Tls>* tls) {
    tls->emplace(Tls::tls_client);
    SSL_CTX_set_options((*tls)->native_handle(), SSL_OP_NO_RENEGOTIATION);
    return **tls;
  }

  asio::io_context& io_;
  std::optional<Tls> trusting_, trustless_;  // made when first needed
  const std::shared_ptr<EchoSocket> echo_v4_;
  const std::shared_ptr<EchoSocket> echo_v6_;
};

}  // namespace

std::unique_ptr<Prober> NewProber(asio::io_context& io) {
  return std::make_unique<NetworkProber>(io);
}

}  // namespace guideway
