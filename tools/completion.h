// Shell completion: what may stand at the cursor, and the scripts that ask for it.
//
// The scripts know nothing of verbs and options. At each TAB they call
//   guideway __complete WORD…
// with the words after `guideway`, the last of them the one at the cursor, up to the cursor; it may
// be empty. The answer is a candidate a line, with a tab and what it means where there is more to
// say; a line `:file` stands for the names of files. So a script that was installed once knows
// every verb that the program beside it has.
#ifndef GUIDEWAY_TOOLS_COMPLETION_H_
#define GUIDEWAY_TOOLS_COMPLETION_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/verbs.h"

namespace guideway {

// Writes the candidates. `common` are the options that every verb takes. What a word may be is read
// off its placeholder: FILE, PATH, OLD, NEW and *.pcap are files, `a|b` is one of these words (in
// capitals: anything), SERVICE/BACKEND, SERVICE and REVISION are a running daemon's, for live
// verbs; of others nothing is known. Of a value behind `--option=`, the candidates are without
// that. A daemon that is not there or takes its time has no names.
void Complete(absl::Span<const Verb> verbs, absl::Span<const Option> common,
              const std::vector<std::string>& words, absl::string_view default_socket,
              std::ostream& out);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_COMPLETION_H_
