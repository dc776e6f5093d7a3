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

  void Unsupported(const google::protobuf::Message& message, absl::string_view key,
                   absl::string_view what) {
    Say(Severity::kUnsupported, message, key, absl::StrCat("this version ", what));
  }
  void Inactive(const google::protobuf::Message& message, absl::string_view key) {
    Say(Severity::kWarning, message, key,
        "read and checked, but this version does not act on it yet");
  }

  // What the schema marks `not_yet`, in `message` and all below it.
  void NotYet(const google::protobuf::Message& message) {
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    reflection.ListFields(message, &fields);
    for (const google::protobuf::FieldDescriptor* field : fields) {
      if (field->options().GetExtension(config::rules).not_yet()) Inactive(message, field->name());
      if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
      if (!field->is_repeated()) NotYet(reflection.GetMessage(message, field));
      for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
        NotYet(reflection.GetRepeatedMessage(message, field, i));
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
  support.NotYet(config);
  support.OfConfig(config);
}

}  // namespace guideway
