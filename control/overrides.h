// What was done to backends by hand: drains, and weights other than the file's.
//
// A value; pure functions. The controller keeps one set in force, and each revision has its own.
#ifndef GUIDEWAY_CONTROL_OVERRIDES_H_
#define GUIDEWAY_CONTROL_OVERRIDES_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace guideway {

namespace api {
class Author;
class Override;
class Revision;
}  // namespace api
struct Revision;

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

enum class ByHand { kDrain, kUndrain, kWeight };

// Something that was asked for by hand.
struct ChangeByHand {
  uint64_t arrival;     // requests are numbered as they come
  std::string backend;  // «service/backend»
  ByHand what;
  std::optional<uint32_t> weight;  // with kWeight; nothing: the file's

  void Apply(Overrides* overrides) const;
};

// What becomes of overrides under a configuration.
struct OverridesFit {
  Overrides standing;
  Overrides gone;  // of backends that it does not have
  Overrides same;  // weights that it has itself

  // What ends, a sentence each.
  std::vector<std::string> WhatEnds() const;
};
OverridesFit FitTo(const Revision& revision, const Overrides& overrides);

// Who did by hand what holds under the last of a row of revisions, and when.
class OverrideAuthors {
 public:
  // The next revision.
  void Follow(const api::Revision& revision);

  // Of the backend «service/backend». Null: nobody, or nobody knows, for revisions were missing.
  // What holds before and after such a gap is taken to hold all the time.
  const api::Author* OfDrain(const std::string& name) const;
  const api::Author* OfWeight(const std::string& name) const;

 private:
  struct Authors {
    Override override;
    std::shared_ptr<const api::Author> drained_by, weight_by;
  };
  std::map<std::string, Authors> authors_;  // by «service/backend»
  uint64_t last_ = 0;
};

// Of overrides that stand under `after`, where they hold over something that it says otherwise than
// `before`: which, and what would end that; a sentence for weights and one for drains.
std::vector<std::string> WhatHolds(const Revision& before, const Revision& after,
                                   const Overrides& standing);

// What of `overrides` is not in `others`.
Overrides Without(const Overrides& overrides, const Overrides& others);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_OVERRIDES_H_
