// The walk: a YAML tree into a message, by the message's descriptor.
//
// The second step of LoadConfig (config.h), and a general one: it knows no key by name (but `name`,
// to call items by), only types and the rules of rules.proto. It reports every key that is unknown
// or given twice, every value that is not what its field takes, every key that is missing, and
// fills in defaults.
//
// Afterwards the Places tell, for each message the file had a mapping for, where it stood, so that
// the checks across keys (validate.h) can say where a fault is. A message with a faulty key of its
// own is marked broken: what follows from that key is not worth reporting.
#ifndef GUIDEWAY_CONTROL_CONFIG_WALKER_H_
#define GUIDEWAY_CONTROL_CONFIG_WALKER_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "control/config/diagnostics.h"
#include "control/config/yaml_tree.h"

namespace guideway {

// Where the messages of one configuration stood. Good for as long as tree and messages are.
class Places {
 public:
  using Message = google::protobuf::Message;
  using FieldDescriptor = google::protobuf::FieldDescriptor;

  explicit Places(const YamlTree* tree) : tree_(tree) {}

  void Add(const Message* message, const YamlNode* node, const Message* parent,
           const FieldDescriptor* field, int index) {
    places_[message] = {node, parent, field, index, false};
  }
  void MarkBroken(const Message* message) { places_[message].broken = true; }

  bool IsBroken(const Message& message) const;
  // Whether the file has this key in this mapping.
  bool Has(const Message& message, absl::string_view key) const;
  // Byte offsets: of the mapping; of the key; of the value, or of one item of a list. What is not
  // in the file stands where the mapping does.
  size_t Of(const Message& message) const;
  size_t OfKey(const Message& message, absl::string_view key) const;
  size_t OfValue(const Message& message, absl::string_view key, int index = -1) const;
  // «services[web].backends[web-1]», and with a key «….weight» or «….weight[2]».
  std::string Path(const Message& message) const;
  std::string Path(const Message& message, absl::string_view key, int index = -1) const;

 private:
  struct Place {
    const YamlNode* node = nullptr;  // null: not in the file
    const Message* parent = nullptr;
    const FieldDescriptor* field = nullptr;
    int index = -1;
    bool broken = false;
  };

  const Place* Find(const Message& message) const;

  const YamlTree* tree_;
  absl::flat_hash_map<const Message*, Place> places_;
};

// Fills `message`, which is empty, from the tree's root.
void WalkYaml(const YamlTree& tree, google::protobuf::Message* message, Places* places,
              Findings* findings);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_WALKER_H_
