#include "control/config/support.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "control/config/config_values.h"
#include "control/config/rules.pb.h"

namespace guideway {
namespace {

class Support {
 public:
  Support(const Places& places, Findings* findings) : places_(places), findings_(findings) {}

  // What the schema marks `not_yet`, in `message` and all below it.
  void NotYet(const google::protobuf::Message& message) {
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    reflection.ListFields(message, &fields);
    for (const google::protobuf::FieldDescriptor* field : fields) {
      if (field->options().GetExtension(config::rules).not_yet()) {
        Warn(message, field->name(), "read and checked, but this version does not act on it yet");
      }
      if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
      if (!field->is_repeated()) NotYet(reflection.GetMessage(message, field));
      for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
        NotYet(reflection.GetRepeatedMessage(message, field, i));
      }
    }
  }

  void OfRouting(const config::Config& config) {
    if (EffectiveRouting(config) != config::Routing::kernel) return;
    constexpr absl::string_view kWhat =
        "this version does not follow the kernel's routes yet: next hops are those of `routes`, "
        "and "
        "packets for a backend that none of them leads to are dropped (no_next_hop)";
    if (config.has_routing()) return Warn(config, "routing", kWhat);
    for (const config::Interface& interface : config.interfaces()) {
      if (!interface.has_kernel_interface()) continue;
      return Warn(interface, "kernel_interface",
                  absl::StrCat("with it routing is kernel, and ", kWhat));
    }
  }

 private:
  void Warn(const google::protobuf::Message& message, absl::string_view key,
            absl::string_view what) {
    findings_->Add(Severity::kWarning, places_.OfValue(message, key),
                   absl::StrCat(places_.Path(message, key), ": ", what));
  }

  const Places& places_;
  Findings* findings_;
};

}  // namespace

void CheckSupport(const config::Config& config, const Places& places, Findings* findings) {
  Support support(places, findings);
  support.NotYet(config);
  support.OfRouting(config);
}

}  // namespace guideway
