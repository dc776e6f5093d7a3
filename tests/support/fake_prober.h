// A Prober whose backends are what the test says: each answers at once, or when told to.
#ifndef GUIDEWAY_TESTS_SUPPORT_FAKE_PROBER_H_
#define GUIDEWAY_TESTS_SUPPORT_FAKE_PROBER_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "control/event_loop.h"
#include "control/prober.h"

namespace guideway {

class FakeProber final : public Prober {
 public:
  struct Asked {
    ProbeQuestion question;
    absl::Duration at;
    Done done;
  };

  explicit FakeProber(EventLoop* loop) : loop_(loop) {}

  void Ask(const ProbeQuestion& question, absl::Duration, Done done) override {
    asked.push_back({question, loop_->Now(), done});
    if (silent) return;
    ProbeAnswer answer;
    const auto it = answers.find(question.address.ToString());
    if (it != answers.end()) answer = it->second;
    loop_->Post([done = std::move(done), answer] { done(answer); });
  }

  void Fail(const std::string& address, const std::string& reason) {
    answers[address] = {ProbeAnswer::Kind::kFailed, reason};
  }
  void Heal(const std::string& address) { answers.erase(address); }

  // How often the backend at `address` was asked.
  int Count(const std::string& address) const {
    int n = 0;
    for (const Asked& a : asked) n += a.question.address.ToString() == address;
    return n;
  }

  std::vector<Asked> asked;
  std::map<std::string, ProbeAnswer> answers;  // by address; «ok» for all others
  bool silent = false;                         // the test calls Asked::done itself

 private:
  EventLoop* const loop_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_FAKE_PROBER_H_
