// What the verbs of `guideway` share: a call that was understood, and the ways it can end.
//
// A verb with few lines lives in guideway.cc, beside the table of them all; one with a file of its
// own gives that table its row.
#ifndef GUIDEWAY_TOOLS_VERBS_H_
#define GUIDEWAY_TOOLS_VERBS_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/output.h"

namespace guideway {

// Exit statuses.
inline constexpr int kYes = 0;
inline constexpr int kNo = 1;
inline constexpr int kWrongCall = 2;

enum class Format { kTable, kJson, kYaml };

// An option that not every verb takes. With a verb that does not list it, it is a wrong call, and
// so it is a second time if it does not repeat. Verbs may share a name.
struct Option {
  absl::string_view name;  // without the dashes
  // As --help shows it; shell completion goes by it (completion.h). None: it is there or not.
  absl::string_view argument;
  absl::string_view help;
  bool repeats = false;
  char letter = 0;  // -o is short for --output; 0: nothing is
  // Why a value is none: «no share…». Empty: it is one. Null: the verb says so itself.
  std::string (*why_none)(const std::string& value) = nullptr;
};

// A call that was understood.
struct Call {
  std::vector<std::string> args;                            // after the verb
  std::map<std::string, std::vector<std::string>> options;  // the verb's own that were given
  Format format = Format::kTable;
  std::string socket;
  Terminal terminal;

  bool Has(const std::string& option) const { return options.count(option) > 0; }
  // In the order given; none if the option was not.
  std::vector<std::string> Values(const std::string& option) const {
    return Has(option) ? options.at(option) : std::vector<std::string>();
  }
};

struct Verb {
  absl::string_view name;
  absl::string_view arguments;  // as --help shows them; shell completion goes by them
  bool live;                    // talks to a running guidewayd
  size_t arguments_count;
  int (*run)(const Call& call);
  absl::string_view summary;
  absl::string_view help;                 // with an example: a line «  guideway NAME …»
  absl::Span<const Option> options = {};  // beyond those that every verb takes
  bool more_arguments = false;            // beyond arguments_count are allowed
  absl::string_view live_arguments = {};  // not `live`, but asks a daemon with these
  // Whether a screen without room for all that the call prints shows the end of it, not the
  // beginning. None: no call.
  bool (*newest_last)(const Call& call) = nullptr;
  bool one_format = false;  // whatever --output says
};

Verb ApplyVerb();       // change_verbs.cc
Verb CompletionVerb();  // completion.cc
Verb DrainVerb();       // by_hand_verbs.cc
Verb ExplainVerb();     // explain_verb.cc
Verb PlanVerb();        // change_verbs.cc
Verb ReplayVerb();      // replay_verb.cc
Verb RollbackVerb();    // change_verbs.cc
Verb TableVerb();       // table_verb.cc
Verb TopVerb();         // top_verb.cc
Verb UndrainVerb();     // by_hand_verbs.cc
Verb WeightVerb();      // by_hand_verbs.cc

// `get flows` (flows_verb.cc).
int GetFlows(const Call& call);

// For verbs whose JSON and YAML are just the message: shows it, unless a table is wanted.
bool ShowMessage(const Call& call, const google::protobuf::Message& message);

// «guideway: why; see `guideway VERB --help`», to standard error. Returns kWrongCall. `why` may end
// in a Suggestion (control/config/diagnostics.h).
int WrongCall(absl::string_view why, absl::string_view verb = "");
// The same of a PACKET that is none, with the forms that there are.
int WrongPacket(absl::string_view why, absl::string_view verb);
// What the status says, to standard error. Returns kNo.
int No(const absl::Status& status);
// The same of what a daemon refused; but a name that is not there makes the call wrong, as it does
// offline.
int Refused(const absl::Status& status, absl::string_view verb);
// To standard error.
void ShowWarnings(const google::protobuf::RepeatedPtrField<std::string>& warnings);

// The revision that a call names as its only argument; 0 if it names none. False: it was a wrong
// call.
bool ReadRevision(const Call& call, absl::string_view verb, uint64_t* number);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_VERBS_H_
