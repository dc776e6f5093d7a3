#include "control/config/support.h"

#include "absl/strings/str_cat.h"
#include "control/config/config_values.h"

namespace guideway {
namespace {

class Support {
 public:
  Support(const Places& places, Findings* findings) : places_(places), findings_(findings) {}

  void Unsupported(const google::protobuf::Message& message, absl::string_view key,
                   absl::string_view what) {
    Say(Severity::kUnsupported, message, key, absl::StrCat("this version ", what));
  }
  void Inactive(const google::protobuf::Message& message, absl::string_view key) {
    Say(Severity::kWarning, message, key,
        "read and checked, but this version does not act on it yet");
  }

  void OfService(const config::Service& service) {
    if (MinHealthyOf(service) > 0) Inactive(service, "min_healthy");
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
    if (config.has_announce()) Inactive(config, "announce");
    if (config.control().has_http()) Inactive(config.control(), "http");
  }

 private:
  void Say(Severity severity, const google::protobuf::Message& message, absl::string_view key,
           absl::string_view what) {
    findings_->Add(severity, places_.OfValue(message, key),
                   absl::StrCat(places_.Path(message, key), ": ", what));
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
