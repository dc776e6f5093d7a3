// What was done to backends by hand: drains, and weights other than the file's.
//
// A value; pure functions. The controller keeps one set in force, and each revision has its own.
#ifndef GUIDEWAY_CONTROL_OVERRIDES_H_
#define GUIDEWAY_CONTROL_OVERRIDES_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace guideway {

namespace api {
class Override;
}

// The largest weight of a backend, as in the configuration.
inline constexpr uint32_t kMaxWeight = 65535;

struct Override {
  bool drained = false;
  std::optional<uint32_t> weight;

  bool empty() const { return !drained && !weight; }
  bool operator==(const Override&) const = default;
};

// By «service/backend»; none is empty.
using Overrides = std::map<std::string, Override>;

// Of one backend; empty if nothing was done to it.
Override OverrideOf(const Overrides& overrides, const std::string& name);
// Replaces it; takes it out if it is empty.
void SetOverride(Overrides* overrides, const std::string& name, const Override& to);

google::protobuf::RepeatedPtrField<api::Override> ToApi(const Overrides& overrides);
// Leaves out what is none, as it may be in a file.
Overrides FromApi(const google::protobuf::RepeatedPtrField<api::Override>& list);

// «drain web/web-1, weight web/web-2 50»
std::string ToText(const Overrides& overrides);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_OVERRIDES_H_
