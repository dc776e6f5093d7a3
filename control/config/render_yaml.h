// A message as YAML, in the spelling of the configuration file.
//
// For `guideway check`, which prints the configuration with its defaults, and for `-o yaml` of
// everything else. Pure; safe from any thread.
//
// Keys are the fields' names, in the schema's order. A field that knows whether it was set is
// printed if it was; any other always, zeros and empty lists included (a list of the configuration
// only if it has items, may not be left out, or would then mean something else). Durations, enums
// and messages that are one oneof are written as config.proto says. A text that another YAML reader
// could take for a number, a boolean or null is quoted.
#ifndef GUIDEWAY_CONTROL_CONFIG_RENDER_YAML_H_
#define GUIDEWAY_CONTROL_CONFIG_RENDER_YAML_H_

#include <google/protobuf/message.h>

#include <string>

namespace guideway {

// A document that ends in a line feed; «{}» for a message with nothing to print.
std::string RenderYaml(const google::protobuf::Message& message);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_RENDER_YAML_H_
