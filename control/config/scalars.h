// One scalar of the file and one field of the schema: is this text a value of that field?
//
// Used by the walk (walker.h). Pure; safe from any thread.
#ifndef GUIDEWAY_CONTROL_CONFIG_SCALARS_H_
#define GUIDEWAY_CONTROL_CONFIG_SCALARS_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "control/config/rules.pb.h"

namespace guideway {

const config::Rules& RulesOf(const google::protobuf::FieldDescriptor* field);

// Whether a message is written as a scalar: a Duration.
bool IsDuration(const google::protobuf::Descriptor* message);
// Whether a message is nothing but one oneof, and so may be written as the name of one of its keys.
bool IsChoice(const google::protobuf::Descriptor* message);

// The names of a message's keys, of an enum's values.
std::vector<std::string> KeysOf(const google::protobuf::Descriptor* message);
std::vector<std::string> ValuesOf(const google::protobuf::EnumDescriptor* values);

// What a field may hold, in words: «tcp, udp or any», «a whole number from 0 to 65535». Of a
// repeated field, what an item may be.
std::string AllowedIn(const google::protobuf::FieldDescriptor* field);

// Sets a scalar field, or adds to a repeated one. `quoted` tells "8" from 8. Returns «» and sets
// it, or sets nothing and returns what is wrong: «found x; allowed: y».
std::string SetScalar(google::protobuf::Message* message,
                      const google::protobuf::FieldDescriptor* field, absl::string_view text,
                      bool quoted);

// The device that a text of format `device` means, without its arguments and spelt in one way:
// «0000:3b:00.0» for «3B:00.0». Nothing for a text that is neither a PCI address nor a name that
// DPDK gives virtual network devices.
std::optional<std::string> CanonicalDevice(absl::string_view text);

// What the parser that refused `text` knows to have been meant, from its status, which quotes the
// text: «; 10.0.0.0/8 is the network» for 10.0.0.1/8. Mostly nothing.
std::string AdviceOf(absl::string_view text, const absl::Status& status);

// A scalar as an error shows it.
std::string Found(absl::string_view text, bool quoted);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_SCALARS_H_
