// What several keys say together: names that occur twice, references that lead nowhere, values that
// contradict each other, keys without effect.
//
// The third step of LoadConfig (config.h). The walk has checked every value by itself; a message
// with a fault of its own is passed over here, since what follows from a fault is not worth
// reporting. Defaults of keys that would have no effect are taken out again, and `timeout`, whose
// default depends on `interval`, is filled in.
#ifndef GUIDEWAY_CONTROL_CONFIG_VALIDATE_H_
#define GUIDEWAY_CONTROL_CONFIG_VALIDATE_H_

#include <string>

#include "control/config/config.pb.h"
#include "control/config/diagnostics.h"
#include "control/config/walker.h"

namespace guideway {

// Of the whole file; calls ValidateService for each service.
void ValidateConfig(config::Config* config, const Places& places, Findings* findings);

// What can be said about one service by itself. Not for one that is broken.
void ValidateService(config::Service* service, const Places& places, Findings* findings);

// `key` of `message` has no effect, because of `why`: an error if the file has it (an empty list is
// none), and a default that nobody asked for goes.
void HasNoEffect(google::protobuf::Message* message, absl::string_view key, absl::string_view why,
                 const Places& places, Findings* findings);

// No two messages of the list `list` of `parent` have the same text at `key`, after `normal` if
// there is one; those without a text are passed over.
void CheckUnique(const google::protobuf::Message& parent, const char* list, const char* key,
                 const Places& places, Findings* findings,
                 std::string (*normal)(const std::string&) = nullptr);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_VALIDATE_H_
