#include "tools/completion.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "control/config/diagnostics.h"
#include "maglev/time_text.h"
#include "tools/api_client.h"

namespace guideway {
namespace {

// Nobody waits longer for a TAB.
constexpr absl::Duration kPatience = absl::Milliseconds(500);

constexpr char kBash[] = R"(# bash completion of guideway: source <(guideway completion bash)
_guideway() {
  local line current=${COMP_WORDS[COMP_CWORD]}
  [[ $current == = ]] && current=
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :file ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
    else
      COMPREPLY+=("${line%%$'\t'*}")
    fi
  done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _guideway guideway
)";

constexpr char kZsh[] = R"(#compdef guideway
# zsh completion of guideway: source <(guideway completion zsh), after compinit
_guideway() {
  local line files=0
  local -a candidates
  for line in "${(@f)$("${(Q)words[1]/#\~/$HOME}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      '') ;;
      :file) files=1 ;;
      *) candidates+=("${${line//:/\\:}/$'\t'/:}") ;;
    esac
  done
  [[ $words[CURRENT] == --*=* ]] && compset -P '*='
  (( $#candidates )) && _describe -V guideway candidates
  (( files )) && _files
  return 0
}
if [[ $funcstack[1] == _guideway ]]; then _guideway "$@"; else compdef _guideway guideway; fi
)";

constexpr char kFish[] = R"(# fish completion of guideway: guideway completion fish | source
function __guideway_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' $current)
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if test "$line" = :file
            for path in (__fish_complete_path (string replace -- "$option" '' "$current"))
                printf '%s%s\n' "$option" $path
            end
        else
            printf '%s%s\n' "$option" $line
        end
    end
end
complete -c guideway -f -a '(__guideway_complete)'
)";

constexpr struct {
  absl::string_view name;
  const char* script;
} kShells[] = {{"bash", kBash}, {"zsh", kZsh}, {"fish", kFish}};

class Completion {
 public:
  Completion(absl::Span<const Verb> verbs, absl::Span<const Option> common,
             absl::string_view socket, std::ostream& out)
      : verbs_(verbs), common_(common), socket_(socket), out_(out) {}

  void Of(std::vector<std::string> words) {
    if (words.empty()) words.emplace_back();
    // bash makes `--option=value` three words.
    if (words.back() == "=" && words.size() > 1)
      words.back() = "";
    else if (words.size() > 2)
      std::erase(words, "=");
    word_ = words.back();
    words.pop_back();

    const Option* open = nullptr;  // whose value comes next
    for (const std::string& word : words) {
      if (open != nullptr) {
        if (open->name == "socket") socket_ = word;
        open = nullptr;
      } else if (absl::StartsWith(word, "-") && word != "-") {
        const std::pair<absl::string_view, absl::string_view> parts =
            absl::StrSplit(word, absl::MaxSplits('=', 1));
        open = FindOption(parts.first);
        if (open != nullptr && (absl::StrContains(word, '=') || open->argument.empty())) {
          if (open->name == "socket") socket_ = std::string(parts.second);
          open = nullptr;
        }
      } else if (verb_ == nullptr) {
        verb_ = FindVerb(word);
        if (verb_ == nullptr) return;
      } else {
        ++arguments_;
      }
    }

    if (open != nullptr) return Value(*open);
    if (const size_t equals = word_.find('=');
        absl::StartsWith(word_, "--") && equals != std::string::npos) {
      open = FindOption(absl::string_view(word_).substr(0, equals));
      word_.erase(0, equals + 1);
      if (open != nullptr) Value(*open);
    } else if (absl::StartsWith(word_, "-")) {
      Options();
    } else if (verb_ == nullptr) {
      for (const Verb& verb : verbs_) Candidate(verb.name, verb.summary);
    } else {
      const std::vector<absl::string_view> arguments =
          absl::StrSplit(verb_->arguments, ' ', absl::SkipEmpty());
      if (arguments_ < arguments.size()) Placeholder(arguments[arguments_]);
    }
  }

 private:
  const Verb* FindVerb(absl::string_view name) const {
    const auto* verb =
        std::find_if(verbs_.begin(), verbs_.end(), [&](const Verb& v) { return v.name == name; });
    return verb == verbs_.end() ? nullptr : verb;
  }

  // `text` with its dashes: `--name` or `-n`.
  const Option* FindOption(absl::string_view text) const {
    for (absl::Span<const Option> options :
         {common_, verb_ == nullptr ? absl::Span<const Option>() : verb_->options}) {
      for (const Option& option : options) {
        if (text == absl::StrCat("--", option.name)) return &option;
        if (option.letter != 0 && text == absl::StrCat("-", std::string(1, option.letter))) {
          return &option;
        }
      }
    }
    return nullptr;
  }

  void Candidate(absl::string_view text, absl::string_view meaning = "") {
    if (!absl::StartsWith(text, word_)) return;
    out_ << text;
    if (!meaning.empty()) out_ << '\t' << meaning;
    out_ << '\n';
  }

  void Options() {
    if (verb_ != nullptr) {
      for (const Option& option : verb_->options) {
        Candidate(absl::StrCat("--", option.name), option.help);
      }
    }
    for (const Option& option : common_) {
      if (HasEffect(option)) Candidate(absl::StrCat("--", option.name), option.help);
    }
  }

  // Of an option that every verb takes.
  bool HasEffect(const Option& option) const {
    if (verb_ == nullptr) return true;
    if (option.name == "output") return !verb_->one_format;
    if (option.name == "socket") return verb_->live || !verb_->live_arguments.empty();
    return true;
  }

  void Value(const Option& option) {
    if (!HasEffect(option)) return;
    Placeholder(option.name == "service" ? "SERVICE" : option.argument);
  }

  void Placeholder(absl::string_view text) {
    absl::ConsumePrefix(&text, "[");
    absl::ConsumeSuffix(&text, "...");
    absl::ConsumeSuffix(&text, "]");
    if (text == "FILE" || text == "PATH" || text == "OLD" || text == "NEW" ||
        absl::EndsWith(text, ".pcap")) {
      out_ << ":file\n";
    } else if (text == "SERVICE/BACKEND") {
      api::BackendList list;
      if (!Ask("/v1/backends", &list)) return;
      const bool undrains = verb_->name == "undrain";
      for (const api::Backend& b : list.backends()) {
        if (undrains && !b.drained_by_hand() && b.state() != "held") continue;
        Candidate(absl::StrCat(b.service(), "/", b.name()),
                  absl::StrCat(b.address(), " ", b.state()));
      }
    } else if (text == "REVISION") {
      api::RevisionList list;
      if (!Ask("/v1/history", &list)) return;
      // The newest first; going back to the one in force is none.
      const auto& revisions = list.revisions();
      for (auto r = revisions.rbegin(); r != revisions.rend(); ++r) {
        if (verb_->name == "rollback" && r == revisions.rbegin()) continue;
        Candidate(absl::StrCat(r->number()),
                  absl::StrCat(TimeText(r->time()), " UTC ", r->how(), " by ", r->who()));
      }
    } else if (text == "SERVICE") {
      api::ServiceList list;
      if (!Ask("/v1/services", &list)) return;
      for (const api::Service& s : list.services()) Candidate(s.name());
    } else {
      for (absl::string_view word : absl::StrSplit(text, '|')) {
        if (std::none_of(word.begin(), word.end(), absl::ascii_isupper)) Candidate(word);
      }
    }
  }

  bool Ask(const std::string& path, google::protobuf::Message* answer) const {
    return verb_ != nullptr && verb_->live && ApiClient(socket_, kPatience).Get(path, answer).ok();
  }

  const absl::Span<const Verb> verbs_;
  const absl::Span<const Option> common_;
  std::string socket_;
  std::ostream& out_;
  std::string word_;  // at the cursor
  const Verb* verb_ = nullptr;
  size_t arguments_ = 0;  // of the verb, before the cursor
};

int RunCompletion(const Call& call) {
  std::vector<std::string> known;
  for (const auto& shell : kShells) {
    if (shell.name == absl::string_view(call.args[0])) {
      std::cout << shell.script;
      return kYes;
    }
    known.emplace_back(shell.name);
  }
  return WrongCall(absl::StrCat("there is no completion for \"", call.args[0], "\"; there are ",
                                absl::StrJoin(known, ", "), Suggestion(call.args[0], known)),
                   "completion");
}

}  // namespace

void Complete(absl::Span<const Verb> verbs, absl::Span<const Option> common,
              const std::vector<std::string>& words, absl::string_view default_socket,
              std::ostream& out) {
  Completion(verbs, common, default_socket, out).Of(words);
}

Verb CompletionVerb() {
  return {
      .name = "completion",
      .arguments = "bash|zsh|fish",
      .live = false,
      .arguments_count = 1,
      .run = RunCompletion,
      .summary = "print the script that completes guideway's words in a shell",
      .help =
          "Prints a script for the shell, which then completes verbs, options, files, and the\n"
          "names of services and backends of the running daemon. In the shell's startup file:\n\n"
          "  source <(guideway completion bash)         # ~/.bashrc\n"
          "  source <(guideway completion zsh)          # ~/.zshrc, after compinit\n"
          "  guideway completion fish | source          # ~/.config/fish/config.fish\n\n"
          "`meson install` puts the scripts where the shells look for them.",
      .one_format = true};
}

}  // namespace guideway
