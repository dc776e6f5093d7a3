// Runs `guideway` as people do: as a process, with its exit status and what it printed. GUIDEWAY in
// the environment names the program.
#ifndef GUIDEWAY_TESTS_SUPPORT_PROGRAM_H_
#define GUIDEWAY_TESTS_SUPPORT_PROGRAM_H_

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace guideway {

struct Result {
  int exit_status;  // -1: it died
  std::string out, err;
};

inline std::string Slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// `arguments` as in a shell. `directory` is for what it prints.
inline Result RunGuideway(const std::string& directory, const std::string& arguments) {
  const std::string out = directory + "/out", err = directory + "/err";
  const int status = std::system(
      absl::StrCat(std::getenv("GUIDEWAY"), " ", arguments, " >", out, " 2>", err).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Slurp(out), Slurp(err)};
}

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_PROGRAM_H_
