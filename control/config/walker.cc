#include "control/config/walker.h"

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "control/config/scalars.h"

namespace guideway {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;
using Kind = YamlNode::Kind;

// What a node is, for an error that expected something else.
std::string Describe(const YamlTree& tree, const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull: return "nothing";
    case Kind::kPlain: return Found(tree.text(node), false);
    case Kind::kQuoted: return Found(tree.text(node), true);
    case Kind::kSequence: return node.begin() == node.end() ? "an empty list" : "a list";
    case Kind::kMapping: return "a mapping";
  }
  return "";
}

// How an element of a list is called: by its name, else by its place.
std::string ElementName(const YamlTree& tree, const YamlNode* node, int index) {
  if (node != nullptr) {
    const YamlNode* name = tree.Find(*node, "name");
    if (name != nullptr && name->is_scalar()) {
      const absl::string_view text = tree.text(*name);
      const std::string found = Found(text, false);
      if (!text.empty() && found == text) return found;
    }
  }
  return absl::StrCat(index);
}

class Walker {
 public:
  Walker(const YamlTree& tree, Places* places, Findings* findings)
      : tree_(tree), places_(places), findings_(findings) {}

  // `node` is a mapping, or null where the message comes from a default.
  void Walk(const YamlNode* node, Message* message) {
    const Descriptor* descriptor = message->GetDescriptor();
    const Reflection* reflection = message->GetReflection();
    // By field number: the key that set it first.
    absl::flat_hash_map<int, const YamlNode*> given;
    absl::flat_hash_map<const OneofDescriptor*, const YamlNode*> chosen;
    if (node != nullptr) {
      for (const YamlNode* key = node->begin(); key != node->end() && !findings_->full();
           key = key->next()->next()) {
        WalkKey(key, message, &given, &chosen);
      }
    }
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const FieldDescriptor* field = descriptor->field(i);
      if (field->real_containing_oneof() == nullptr && !given.contains(field->number())) {
        FillDefault(message, field);
      }
    }
    for (int i = 0; i < descriptor->real_oneof_decl_count(); ++i) {
      const OneofDescriptor* oneof = descriptor->oneof_decl(i);
      const bool required =
          IsChoice(descriptor) || oneof->options().GetExtension(config::one_required);
      if (required && !chosen.contains(oneof) && !reflection->HasOneof(*message, oneof)) {
        std::vector<std::string> keys;
        for (int k = 0; k < oneof->field_count(); ++k) keys.push_back(oneof->field(k)->name());
        Error(places_->Of(*message), message,
              absl::StrCat(places_->Path(*message), ": one of ", OneOf(keys), " is missing"));
      }
    }
  }

 private:
  void Error(size_t position, const Message* broken, std::string text) {
    if (broken != nullptr) places_->MarkBroken(broken);
    findings_->Error(position, std::move(text));
  }

  void WalkKey(const YamlNode* key, Message* message,
               absl::flat_hash_map<int, const YamlNode*>* given,
               absl::flat_hash_map<const OneofDescriptor*, const YamlNode*>* chosen) {
    const Descriptor* descriptor = message->GetDescriptor();
    const absl::string_view word = tree_.text(*key);
    const FieldDescriptor* field = descriptor->FindFieldByName(std::string(word));
    if (field == nullptr) {
      const std::vector<std::string> keys = KeysOf(descriptor);
      const std::string path = places_->Path(*message);
      // No «broken»: the keys that are known still mean what they say.
      findings_->Error(key->position,
                       absl::StrCat(path, path.empty() ? "" : ".", Found(word, false),
                                    ": unknown key; allowed: ", keys.empty() ? "none" : OneOf(keys),
                                    Suggestion(word, keys)));
      return;
    }
    const auto [first, is_first] = given->try_emplace(field->number(), key);
    if (!is_first) {
      findings_->Error(
          key->position,
          absl::StrCat(places_->Path(*message, field->name()), ": given twice, first in line ",
                       findings_->source().LineAt(first->second->position), "; allowed: once"));
      return;
    }
    if (const OneofDescriptor* oneof = field->real_containing_oneof()) {
      const auto [other, is_only] = chosen->try_emplace(oneof, key);
      if (!is_only) {
        Error(key->position, message,
              absl::StrCat(places_->Path(*message, field->name()), ": found beside ",
                           tree_.text(*other->second), "; only one of them is allowed"));
        return;
      }
    }
    const YamlNode& value = *key->next();
    if (field->is_repeated()) {
      WalkList(value, message, field);
    } else {
      WalkValue(value, message, field, -1);
    }
  }

  void WrongKind(const YamlNode& value, Message* message, const FieldDescriptor* field, int index,
                 absl::string_view allowed) {
    Error(value.position, message,
          absl::StrCat(places_->Path(*message, field->name(), index), ": found ",
                       Describe(tree_, value), "; allowed: ", allowed));
  }

  void WalkList(const YamlNode& value, Message* message, const FieldDescriptor* field) {
    if (value.kind != Kind::kSequence) {
      WrongKind(value, message, field, -1,
                absl::StrCat("a list, [] for an empty one; each item is ", AllowedIn(field)));
      return;
    }
    const config::Rules& rules = RulesOf(field);
    int index = 0;
    absl::flat_hash_set<std::string> seen;
    for (const YamlNode* item = value.begin(); item != value.end() && !findings_->full();
         item = item->next(), ++index) {
      if (rules.max_items() != 0 && index >= static_cast<int>(rules.max_items())) {
        Error(item->position, message,
              absl::StrCat(places_->Path(*message, field->name(), index),
                           ": found too many items; allowed: at most ", rules.max_items()));
        return;
      }
      WalkValue(*item, message, field, index);
      if (rules.unique() && item->is_scalar() &&
          !seen.insert(std::string(tree_.text(*item))).second) {
        Error(item->position, message,
              absl::StrCat(places_->Path(*message, field->name(), index), ": found ",
                           Describe(tree_, *item), " a second time; allowed: each once"));
      }
    }
    if (index < static_cast<int>(rules.min_items())) {
      WrongKind(value, message, field, -1,
                absl::StrCat("at least ", rules.min_items(), "; an item is ", AllowedIn(field)));
    }
  }

  // One value of `field`, which is singular or gets one more.
  void WalkValue(const YamlNode& value, Message* message, const FieldDescriptor* field, int index) {
    const bool is_message =
        field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field->message_type());
    if (!is_message) {
      if (!value.is_scalar()) {
        WrongKind(value, message, field, index, AllowedIn(field));
        return;
      }
      const std::string wrong =
          SetScalar(message, field, tree_.text(value), value.kind == Kind::kQuoted);
      if (!wrong.empty()) {
        Error(value.position, message,
              absl::StrCat(places_->Path(*message, field->name(), index), ": ", wrong));
      }
      return;
    }
    const Reflection* reflection = message->GetReflection();
    if (value.is_scalar() && IsChoice(field->message_type())) {
      const std::string word(tree_.text(value));
      const FieldDescriptor* choice = field->message_type()->FindFieldByName(word);
      if (choice == nullptr) {
        Error(value.position, message,
              absl::StrCat(places_->Path(*message, field->name(), index), ": found ",
                           Describe(tree_, value), "; allowed: ", AllowedIn(field),
                           Suggestion(absl::string_view(word), KeysOf(field->message_type()))));
        return;
      }
      Message* outer = reflection->MutableMessage(message, field);
      places_->Add(outer, &value, message, field, index);
      Message* inner = outer->GetReflection()->MutableMessage(outer, choice);
      places_->Add(inner, &value, outer, choice, -1);
      Walk(nullptr, inner);
      return;
    }
    if (value.kind != Kind::kMapping) {
      // What is missing counts as an item, so that its neighbours keep their numbers.
      if (field->is_repeated()) {
        Message* item = reflection->AddMessage(message, field);
        places_->Add(item, &value, message, field, index);
        places_->MarkBroken(item);
      }
      WrongKind(value, message, field, index, AllowedIn(field));
      return;
    }
    Message* inner = field->is_repeated() ? reflection->AddMessage(message, field)
                                          : reflection->MutableMessage(message, field);
    places_->Add(inner, &value, message, field, index);
    Walk(&value, inner);
  }

  // `field` was not in the file.
  void FillDefault(Message* message, const FieldDescriptor* field) {
    const config::Rules& rules = RulesOf(field);
    if (rules.required()) {
      Error(places_->Of(*message), message,
            absl::StrCat(places_->Path(*message, field->name()), ": missing; allowed: ",
                         field->is_repeated() ? "a list, each item " : "", AllowedIn(field)));
    } else if (rules.has_default_value()) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
          !IsDuration(field->message_type())) {
        Message* inner = message->GetReflection()->MutableMessage(message, field);
        places_->Add(inner, nullptr, message, field, -1);
        Walk(nullptr, inner);
      } else {
        const std::string& text = rules.default_value();
        (void)SetScalar(message, field, text == "\"\"" ? "" : absl::string_view(text), false);
      }
    }
  }

  const YamlTree& tree_;
  Places* places_;
  Findings* findings_;
};

}  // namespace

const Places::Place* Places::Find(const Message& message) const {
  const auto it = places_.find(&message);
  return it == places_.end() ? nullptr : &it->second;
}

bool Places::IsBroken(const Message& message) const {
  const Place* place = Find(message);
  return place != nullptr && place->broken;
}

bool Places::Has(const Message& message, absl::string_view key) const {
  const Place* place = Find(message);
  return place != nullptr && place->node != nullptr && tree_->FindKey(*place->node, key) != nullptr;
}

size_t Places::Of(const Message& message) const {
  for (const Place* place = Find(message); place != nullptr;
       place = place->parent == nullptr ? nullptr : Find(*place->parent)) {
    if (place->node != nullptr) return place->node->position;
  }
  return 0;
}

size_t Places::OfKey(const Message& message, absl::string_view key) const {
  const Place* place = Find(message);
  const YamlNode* found =
      place == nullptr || place->node == nullptr ? nullptr : tree_->FindKey(*place->node, key);
  return found == nullptr ? Of(message) : found->position;
}

size_t Places::OfValue(const Message& message, absl::string_view key, int index) const {
  const Place* place = Find(message);
  const YamlNode* value =
      place == nullptr || place->node == nullptr ? nullptr : tree_->Find(*place->node, key);
  if (value == nullptr) return Of(message);
  if (index >= 0 && value->kind == Kind::kSequence) {
    for (const YamlNode* item = value->begin(); item != value->end(); item = item->next()) {
      if (index-- == 0) return item->position;
    }
  }
  return value->position;
}

std::string Places::Path(const Message& message) const {
  const Place* place = Find(message);
  if (place == nullptr || place->parent == nullptr) return "";
  std::string path = Path(*place->parent);
  absl::StrAppend(&path, path.empty() ? "" : ".", place->field->name());
  if (place->index >= 0) {
    absl::StrAppend(&path, "[", ElementName(*tree_, place->node, place->index), "]");
  }
  return path;
}

std::string Places::Path(const Message& message, absl::string_view key, int index) const {
  std::string path = Path(message);
  absl::StrAppend(&path, path.empty() ? "" : ".", key);
  if (index >= 0) absl::StrAppend(&path, "[", index, "]");
  return path;
}

void WalkYaml(const YamlTree& tree, Message* message, Places* places, Findings* findings) {
  const YamlNode& root = tree.root();
  places->Add(message, &root, nullptr, nullptr, -1);
  Walker walker(tree, places, findings);
  if (root.kind == Kind::kMapping) {
    walker.Walk(&root, message);
  } else if (root.kind == Kind::kNull) {
    walker.Walk(nullptr, message);
  } else {
    findings->Error(root.position, absl::StrCat("found ", Describe(tree, root),
                                                "; allowed: a mapping with the keys ",
                                                OneOf(KeysOf(message->GetDescriptor()))));
  }
}

}  // namespace guideway
