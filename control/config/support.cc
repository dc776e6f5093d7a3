#include "control/config/support.h"

#include "absl/strings/str_cat.h"
#include "control/config/config_values.h"

namespace guideway {
namespace {

class Support {
 public:
  Support(const Places& places, Findings* findings) : places_(places), findings_(findings) {}

  void Unsupported(const google::protobuf::Message& message, absl::string_view key,
                   absl::string_view what, int index = -1) {
    Say(Severity::kUnsupported, message, key, absl::StrCat("this version ", what), index);
  }
  void Inactive(const google::protobuf::Message& message, absl::string_view key) {
    Say(Severity::kWarning, message, key,
        "read and checked, but this version does not act on it yet", -1);
  }

  void OfService(const config::Service& service) {
    if (service.protocol() == config::TransportProtocol::any) {
      Unsupported(service, "protocol", "forwards tcp and udp only");
    }
    const std::vector<Prefix> vips = VipsOf(service);
    for (size_t i = 0; i < vips.size(); ++i) {
      if (!vips[i].address.is_v4() || !vips[i].is_host()) {
        Unsupported(service, "vips", "serves single IPv4 addresses only", static_cast<int>(i));
      }
    }
    if (ForwardingOf(service) != Forwarding::kIpip) {
      Unsupported(service, "forwarding", "forwards by ipip only");
    }
    if (service.has_quic()) Unsupported(service, "quic", "does not route by connection id");
    if (service.limits().has_new_flows_per_second()) {
      Unsupported(service, "limits", "does not limit new connections");
    }
    const config::HealthCheck& check = service.health_check();
    if (check.has_https()) Unsupported(check, "https", "probes by tcp and http only");
    if (check.has_dns()) Unsupported(check, "dns", "probes by tcp and http only");
    if (check.has_icmp()) Unsupported(check, "icmp", "probes by tcp and http only");
    if (check.has_udp()) Unsupported(check, "udp", "probes by tcp and http only");
    if (MinHealthyOf(service) > 0) Inactive(service, "min_healthy");
    for (const config::Backend& backend : service.backends()) {
      if (!AddressOf(backend).is_v4()) {
        Unsupported(backend, "address", "reaches IPv4 backends only");
      }
    }
  }

  void OfConfig(const config::Config& config) {
    if (EffectiveRouting(config) == config::Routing::kernel) {
      constexpr absl::string_view kWhat = "takes next hops from routes only (routing: static)";
      if (config.has_routing()) {
        Unsupported(config, "routing", kWhat);
      } else {
        for (const config::Interface& interface : config.interfaces()) {
          if (!interface.has_kernel_interface()) continue;
          Unsupported(interface, "kernel_interface", kWhat);
          break;
        }
      }
    }
    for (const config::Interface& interface : config.interfaces()) {
      if (interface.has_kernel_interface()) Inactive(interface, "kernel_interface");
    }
    if (config.dataplane().replies_per_second() != kDefaultReplies) {
      Inactive(config.dataplane(), "replies_per_second");
    }
    for (const char* key : {"spread_ipv4", "spread_ipv6"}) {
      if (places_.Has(config.tunnel(), key)) Inactive(config.tunnel(), key);
    }
    const config::Access& access = config.access();
    if (access.allow_size() + access.allow_files_size() + access.deny_size() +
            access.deny_files_size() >
        0) {
      Unsupported(config, "access", "admits every source");
    }
    if (config.has_announce()) Inactive(config, "announce");
    if (config.control().has_http()) Inactive(config.control(), "http");
  }

 private:
  static constexpr uint32_t kDefaultReplies = 1000;

  void Say(Severity severity, const google::protobuf::Message& message, absl::string_view key,
           absl::string_view what, int index) {
    findings_->Add(severity, places_.OfValue(message, key, index),
                   absl::StrCat(places_.Path(message, key, index), ": ", what));
  }

  const Places& places_;
  Findings* findings_;
};

}  // namespace

void CheckSupport(const config::Config& config, const Places& places, Findings* findings) {
  Support support(places, findings);
  support.OfConfig(config);
  for (const config::Service& service : config.services()) support.OfService(service);
}

}  // namespace guideway
