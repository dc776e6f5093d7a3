// The controller and its history: what is a revision, what is in force after a restart, overrides
// by hand, rollback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/api/api.pb.h"
#include "control/controller.h"
#include "control/history.h"
#include "control/metrics.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/fake_prober.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::string Ab(int weight_of_a, const std::string& more = "") {
  return ConfigText(ServiceText("web", 1,
                                absl::StrCat("{ name: a, address: 10.0.0.1, weight: ", weight_of_a,
                                             " }, { name: b, address: 10.0.0.2 }"),
                                more));
}
constexpr char kOnlyB[] = "{ name: b, address: 10.0.0.2 }";

class RevisionsTest : public testing::Test {
 protected:
  RevisionsTest() {
    std::string name = testing::TempDir() + "revisions_test.XXXXXX";
    directory_ = mkdtemp(name.data());
    file_ = directory_ + "/guideway.yaml";
  }
  ~RevisionsTest() override {
    Crash();
    std::filesystem::remove_all(directory_);
  }

  void WriteFile(const std::string& text) { std::ofstream(file_) << text; }
  void Start() {
    history_ = std::make_unique<History>(directory_ + "/state", file_);
    absl::StatusOr<Beginning> beginning = ChooseBeginning(history_.get(), file_);
    ASSERT_TRUE(beginning.ok()) << beginning.status().message();
    controller_.emplace(
        &loop_, &prober_, &dataplane_,
        Controller::Options{.config_file = file_, .version = "test", .history = history_.get()},
        *std::move(beginning));
    history_->Attach(&disk_);
    ASSERT_EQ(controller_->Start(), absl::OkStatus());
    disk_.RunAll();
  }
  void StartWith(const std::string& text) {
    WriteFile(text);
    Start();
  }
  void Crash() {
    controller_.reset();
    history_.reset();
  }
  void RunAll() {
    for (int i = 0; i < 10; ++i) {
      loop_.RunAll();
      disk_.RunAll();
    }
  }

  // What came of a request; empty while nothing has.
  using Outcome = std::shared_ptr<std::optional<absl::Status>>;
  static Outcome NewOutcome() { return std::make_shared<std::optional<absl::Status>>(); }
  Outcome Apply(const std::string& text, bool discard_overrides = false) {
    const Outcome outcome = NewOutcome();
    controller_->Apply({"new.yaml", text, "alice", discard_overrides},
                       [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }
  Outcome Rollback(std::optional<uint64_t> number = std::nullopt) {
    const Outcome outcome = NewOutcome();
    controller_->Rollback(number, "alice",
                          [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }
  Outcome Weight(const std::string& backend, std::optional<uint32_t> weight) {
    const Outcome outcome = NewOutcome();
    controller_->SetWeight({"web", backend, "bob"}, weight,
                           [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }
  Outcome Drain(const std::string& backend) {
    const Outcome outcome = NewOutcome();
    controller_->Drain({"web", backend, "bob"},
                       [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }
  Outcome Undrain(const std::string& backend) {
    const Outcome outcome = NewOutcome();
    controller_->Undrain({"web", backend, "bob"},
                         [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }
  // The answer to an apply, a rollback or a plan that succeeds.
  template <typename Result>
  static std::function<void(absl::StatusOr<Result>)> Into(Result* result) {
    return [result](absl::StatusOr<Result> answer) {
      EXPECT_TRUE(answer.ok()) << answer.status().message();
      if (answer.ok()) *result = *std::move(answer);
    };
  }
  static std::string Message(const Outcome& outcome) {
    if (!outcome->has_value()) return "nothing yet";
    return (*outcome)->ok() ? "ok" : std::string((*outcome)->message());
  }

  api::Backend Get(const std::string& backend) {
    const api::BackendList list = controller_->GetBackends();
    for (const api::Backend& b : list.backends()) {
      if (b.name() == backend) return b;
    }
    ADD_FAILURE() << "no " << backend;
    return {};
  }
  // «number how who», the newest last.
  std::vector<std::string> Lines() {
    std::vector<std::string> lines;
    const api::RevisionList list = controller_->GetHistory();
    for (const api::Revision& r : list.revisions()) {
      lines.push_back(absl::StrCat(r.number(), " ", r.how(), " by ", r.who()));
    }
    return lines;
  }
  std::string LastOverrides() {
    const api::RevisionList list = controller_->GetHistory();
    return ToText(FromApi(list.revisions().rbegin()->overrides()));
  }

  std::string Events() {
    const api::Status status = controller_->GetStatus();
    std::string events;
    for (const api::Event& event : status.events()) absl::StrAppend(&events, event.text(), "\n");
    return events;
  }
  static std::string Text(const google::protobuf::RepeatedPtrField<api::Override>& overrides) {
    return ToText(FromApi(overrides));
  }

  FakeEventLoop loop_, disk_;
  FakeProber prober_{&loop_};
  FakeDataplane dataplane_;
  std::string directory_, file_;
  std::unique_ptr<History> history_;
  std::optional<Controller> controller_;
};

TEST_F(RevisionsTest, EveryChangeIsARevisionWithWhoAndHow) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  Drain("a");
  RunAll();
  Weight("b", 7);
  RunAll();
  Undrain("a");
  RunAll();
  controller_->Reload();
  RunAll();
  Rollback(2);
  RunAll();
  EXPECT_THAT(Lines(), ElementsAre("1 start by start", "2 apply by alice", "3 drain web/a by bob",
                                   "4 weight web/b 7 by bob", "5 undrain web/a by bob",
                                   "6 reload by SIGHUP", "7 rollback to 2 by alice"));
  const api::Status status = controller_->GetStatus();
  EXPECT_EQ(status.revision(), 7u);
  EXPECT_EQ(status.how(), "rollback to 2");
  EXPECT_EQ(status.who(), "alice");
  EXPECT_EQ(status.configuration(), "applied");
  EXPECT_EQ(status.applied_file(), "new.yaml");
}

TEST_F(RevisionsTest, WhatIsRefusedOrChangesNothingIsNone) {
  StartWith(Ab(100));
  Apply("nonsense");
  Drain("x");
  Undrain("a");
  Weight("a", 100);
  RunAll();
  EXPECT_THAT(Lines(), ElementsAre("1 start by start"));
}

// What is asked by hand while such a change is compiled is about what is in force after all.
TEST_F(RevisionsTest, ARefusedDiscardLeavesWhatWasDoneByHand) {
  StartWith(Ab(100));
  Drain("a");
  Weight("b", 7);
  RunAll();
  const Outcome apply = NewOutcome();
  controller_->Apply({.name = "new.yaml",
                      .text = Ab(100),
                      .who = "alice",
                      .discard_overrides = true,
                      .max_moved = 0.01},
                     [apply](const auto& result) { *apply = result.status(); });
  while (loop_.helper_work() == 0 || dataplane_.published.empty()) loop_.RunHelper();
  loop_.RunHelper();  // it is read, and the Compile is under way
  const Outcome undrain = Undrain("a");
  RunAll();
  EXPECT_THAT(Message(apply), HasSubstr("of service web's new connections would move"));
  EXPECT_EQ(Message(undrain), "ok");
  EXPECT_FALSE(Get("a").drained_by_hand());
  EXPECT_EQ(Get("b").weight(), 7u);
  EXPECT_EQ(LastOverrides(), "weight web/b 7");
}

TEST_F(RevisionsTest, AnAnswerComesWhenItIsInForceAndOnDisk) {
  StartWith(Ab(100));
  const size_t published = dataplane_.published.size();
  const Outcome weight = Weight("a", 7);
  loop_.RunAll();
  EXPECT_EQ(dataplane_.published.size(), published + 1) << "the disk holds up nothing";
  EXPECT_EQ(Get("a").weight(), 7u);
  EXPECT_EQ(Message(weight), "nothing yet");
  const Outcome apply = Apply(Ab(60));
  loop_.RunAll();
  EXPECT_EQ(dataplane_.published.size(), published + 2);
  EXPECT_EQ(Message(apply), "nothing yet");
  RunAll();
  EXPECT_EQ(Message(weight), "ok");
  EXPECT_EQ(Message(apply), "ok");
}

// A crash must not lose what was acknowledged: the first to ask is not on disk yet.
TEST_F(RevisionsTest, WhoChangesNothingWaitsForWhoDid) {
  StartWith(Ab(100));
  const Outcome first = Drain("a");
  loop_.RunAll();
  api::Done done;
  done.set_changed(true);
  const Outcome second = NewOutcome();
  controller_->Drain({"web", "a", "carol"}, [&](absl::StatusOr<api::Done> answer) {
    *second = answer.status();
    if (answer.ok()) done = *answer;
  });
  loop_.RunAll();
  EXPECT_EQ(Message(first), "nothing yet");
  EXPECT_EQ(Message(second), "nothing yet");
  RunAll();
  EXPECT_EQ(Message(first), "ok");
  EXPECT_EQ(Message(second), "ok");
  EXPECT_FALSE(done.changed());
  EXPECT_THAT(Lines().back(), HasSubstr("2 drain web/a by bob"));
}

TEST_F(RevisionsTest, AfterACrashTheSameIsInForce) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  Weight("b", 7);
  Drain("a");
  RunAll();
  const uint64_t digest = dataplane_.snapshot().services()[0]->configured_digest;
  Crash();
  Start();
  EXPECT_EQ(Get("a").weight(), 50u);
  EXPECT_EQ(Get("b").weight(), 7u);
  EXPECT_EQ(Get("b").file_weight(), 100u);
  EXPECT_TRUE(Get("b").weight_by_hand());
  EXPECT_EQ(Get("a").state(), "drain");
  EXPECT_EQ(dataplane_.snapshot().services()[0]->configured_digest, digest);
  const api::Status status = controller_->GetStatus();
  EXPECT_EQ(status.revision(), 5u);
  EXPECT_EQ(status.how(), "start");
  EXPECT_EQ(status.configuration(), "applied");
  EXPECT_EQ(status.applied_file(), "new.yaml");
  EXPECT_EQ(status.config_error(), "");
  EXPECT_FALSE(status.has_refused());
  ASSERT_EQ(status.overrides_size(), 2);
  EXPECT_EQ(status.overrides(1).file_weight(), 100u);
  EXPECT_EQ(status.overrides(0).drained_by().who(), "bob");
  EXPECT_FALSE(status.overrides(0).has_weight_by());
  EXPECT_EQ(status.overrides(1).weight_by().time(), controller_->GetHistory().revisions(2).time());
  EXPECT_THAT(Events(),
              HasSubstr("done by hand before the start holds: drain web/a, weight web/b"));
}

TEST_F(RevisionsTest, AtAStartABrokenFileYieldsAndStatusSaysSo) {
  StartWith(Ab(60));
  Crash();
  WriteFile(Ab(70) + "bogus: 1\n");
  Start();
  EXPECT_EQ(Get("a").weight(), 60u);
  const api::Status status = controller_->GetStatus();
  EXPECT_EQ(status.configuration(), "last revision");
  EXPECT_THAT(status.config_error(), HasSubstr("bogus"));
  EXPECT_THAT(status.events().rbegin()->text(), HasSubstr("refused at the start"));
  EXPECT_EQ(status.refused().how(), "start");
  EXPECT_EQ(status.refused().why(), status.config_error());
  Crash();
  WriteFile(Ab(70));
  Start();
  EXPECT_EQ(Get("a").weight(), 70u);
  EXPECT_EQ(controller_->GetStatus().configuration(), "file");
  EXPECT_EQ(controller_->GetStatus().config_error(), "");
}

TEST_F(RevisionsTest, StatusSaysWhatWasRefusedUntilAConfigurationIsNot) {
  StartWith(Ab(60));
  Apply("bogus: 1\n");
  RunAll();
  api::Refusal refused = controller_->GetStatus().refused();
  EXPECT_EQ(refused.who(), "alice");
  EXPECT_EQ(refused.how(), "apply");
  EXPECT_EQ(refused.file(), "new.yaml");
  EXPECT_THAT(refused.why(), HasSubstr("bogus"));
  EXPECT_THAT(refused.time(), HasSubstr("+00:00"));
  EXPECT_EQ(refused.age_seconds(), 0);
  EXPECT_FALSE(refused.changed_since());
  controller_->Apply({.name = "other.yaml", .text = Ab(70), .max_moved = 0}, [](const auto&) {});
  RunAll();
  EXPECT_EQ(controller_->GetStatus().refused().file(), "new.yaml") << "nothing is wrong with other";
  loop_.Advance(absl::Seconds(90));
  Drain("a");
  RunAll();
  refused = controller_->GetStatus().refused();
  EXPECT_NEAR(refused.age_seconds(), 90, 1);
  EXPECT_TRUE(refused.changed_since());
  EXPECT_NE(controller_->GetStatus().config_error(), "");
  Apply(Ab(70));
  RunAll();
  EXPECT_FALSE(controller_->GetStatus().has_refused());
}

TEST_F(RevisionsTest, OverridesOfABackendThatIsGoneAreDropped) {
  StartWith(Ab(100));
  Drain("a");
  Weight("b", 7);
  RunAll();
  Crash();
  WriteFile(ConfigText(ServiceText("web", 1, kOnlyB)));
  Start();
  EXPECT_EQ(LastOverrides(), "weight web/b 7");
  EXPECT_THAT(Events(),
              HasSubstr("dropped, for the configuration has no such backend: drain web/a"));
  Apply(Ab(100));
  RunAll();
  EXPECT_EQ(Get("a").state(), "up") << "it is another when it comes back";
}

// --- Weights -------------------------------------------------------------------------------------

TEST_F(RevisionsTest, AWeightByHandReachesTheTable) {
  StartWith(Ab(100));
  const uint64_t before = dataplane_.snapshot().services()[0]->configured_digest;
  const Outcome outcome = Weight("a", 300);
  RunAll();
  EXPECT_EQ(Message(outcome), "ok");
  EXPECT_EQ(Get("a").weight(), 300u);
  EXPECT_EQ(Get("a").file_weight(), 100u);
  EXPECT_TRUE(Get("a").weight_by_hand());
  EXPECT_NEAR(Get("a").share(), 0.75, 0.01);
  EXPECT_NE(dataplane_.snapshot().services()[0]->configured_digest, before);
  // As on a balancer that has it in its file.
  const uint64_t by_hand = dataplane_.snapshot().services()[0]->configured_digest;
  Apply(Ab(300));
  RunAll();
  EXPECT_EQ(dataplane_.snapshot().services()[0]->configured_digest, by_hand);
}

TEST_F(RevisionsTest, TheFilesWeightEndsAnOverride) {
  StartWith(Ab(100));
  Weight("a", 50);
  RunAll();
  Weight("a", 100);
  RunAll();
  EXPECT_FALSE(Get("a").weight_by_hand());
  Weight("a", 50);
  Drain("a");
  RunAll();
  Weight("a", std::nullopt);
  RunAll();
  EXPECT_EQ(Get("a").weight(), 100u);
  EXPECT_EQ(LastOverrides(), "drain web/a") << "and nothing else";
  EXPECT_THAT(Lines().back(), HasSubstr("weight web/a file"));
}

TEST_F(RevisionsTest, OverridesHoldOverAppliesAndReloadsUntilTheyAreDiscarded) {
  StartWith(Ab(100));
  Weight("a", 50);
  Drain("b");
  RunAll();
  Apply(Ab(70));
  RunAll();
  controller_->Reload();
  RunAll();
  EXPECT_EQ(Get("a").weight(), 50u);
  EXPECT_EQ(Get("b").state(), "drain");

  const Outcome refused = Apply("nonsense", true);
  RunAll();
  EXPECT_NE(Message(refused), "ok");
  EXPECT_EQ(LastOverrides(), "weight web/a 50, drain web/b") << "all or nothing";

  Apply(Ab(70), true);
  RunAll();
  EXPECT_EQ(Get("a").weight(), 70u);
  EXPECT_EQ(Get("b").state(), "up");
  EXPECT_EQ(LastOverrides(), "");
  EXPECT_EQ(controller_->GetStatus().overrides_size(), 0);
}

TEST_F(RevisionsTest, WhatIsAskedWhileOverridesAreDiscardedComesAfter) {
  StartWith(Ab(100));
  Drain("b");
  RunAll();
  Apply(Ab(70), true);
  loop_.RunHelper();  // read; the Compile is under way
  const Outcome outcome = Weight("a", 50);
  EXPECT_EQ(Message(outcome), "nothing yet");
  RunAll();
  EXPECT_EQ(Message(outcome), "ok");
  EXPECT_EQ(LastOverrides(), "weight web/a 50");
  EXPECT_EQ(Get("a").weight(), 50u);
}

TEST_F(RevisionsTest, WhatIsShownIsInForce) {
  StartWith(Ab(100));
  Drain("b");
  Weight("a", 50);
  RunAll();
  const Outcome apply = Apply(Ab(70), true);
  loop_.RunHelper();  // read; the Compile is under way, and may still refuse it
  EXPECT_EQ(controller_->GetStatus().overrides_size(), 2);
  EXPECT_TRUE(Get("b").drained_by_hand());
  EXPECT_TRUE(Get("a").weight_by_hand());
  RunAll();
  EXPECT_EQ(Message(apply), "ok");
  EXPECT_EQ(controller_->GetStatus().overrides_size(), 0);
  EXPECT_FALSE(Get("b").drained_by_hand());
  Drain("a");
  EXPECT_FALSE(Get("a").drained_by_hand()) << "it is asked for and not in force";
  RunAll();
  EXPECT_TRUE(Get("a").drained_by_hand());
}

// In whatever state that change is: read, or waiting for others, or for the disk.
TEST_F(RevisionsTest, WhatIsAskedAfterADiscardHoldsOverIt) {
  StartWith(Ab(100));
  Drain("b");
  Weight("a", 50);
  RunAll();
  const Outcome apply = Apply(Ab(70), true);
  const Outcome drain = Drain("b"), weight = Weight("a", 100);
  RunAll();
  EXPECT_EQ(Message(apply), "ok");
  EXPECT_EQ(Message(drain), "ok");
  EXPECT_EQ(Message(weight), "ok");
  EXPECT_EQ(LastOverrides(), "weight web/a 100, drain web/b") << "100 is not the file's any more";
  EXPECT_EQ(Get("a").weight(), 100u);

  Rollback(1);
  Undrain("b");
  loop_.RunAll();
  EXPECT_EQ(Get("b").state(), "up") << "by hand it waits for no disk";
  Drain("a");
  Rollback(1);
  RunAll();
  EXPECT_EQ(LastOverrides(), "") << "what came before the second one is undone by it";
}

// --- Rollback ------------------------------------------------------------------------------------

TEST_F(RevisionsTest, RollbackPutsConfigurationAndOverridesBack) {
  StartWith(Ab(100));
  Drain("b");
  RunAll();
  Apply(Ab(50), true);
  RunAll();
  Weight("a", 1);
  RunAll();
  const Outcome outcome = Rollback(2);
  RunAll();
  EXPECT_EQ(Message(outcome), "ok");
  EXPECT_EQ(Get("a").weight(), 100u);
  EXPECT_EQ(Get("b").state(), "drain");
  EXPECT_EQ(LastOverrides(), "drain web/b");
}

TEST_F(RevisionsTest, WithoutANumberItIsTheConfigurationBefore) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  Drain("b");
  RunAll();
  Rollback();
  RunAll();
  EXPECT_EQ(Lines().back(), "4 rollback to 1 by alice") << "over the drain between";
  EXPECT_EQ(Get("a").weight(), 100u);
  EXPECT_EQ(Get("b").state(), "up");
  Rollback();
  RunAll();
  EXPECT_EQ(Lines().back(), "5 rollback to 3 by alice") << "and back";
  EXPECT_EQ(Get("b").state(), "drain");
}

TEST_F(RevisionsTest, BackToWhatTheFileSaysIsTheFile) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  EXPECT_EQ(controller_->GetStatus().configuration(), "applied");
  Rollback();
  RunAll();
  EXPECT_EQ(controller_->GetStatus().configuration(), "file");
  EXPECT_EQ(controller_->GetStatus().applied_file(), "");
  WriteFile(Ab(70));
  controller_->Reload();
  RunAll();
  Apply(Ab(100));
  RunAll();
  EXPECT_EQ(controller_->GetStatus().applied_file(), "new.yaml") << "the file says something else";
}

TEST_F(RevisionsTest, WhereItGoesBackToIsFoundWhenItsTurnComes) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  Apply(Ab(70));
  loop_.RunHelper();  // read; the Compile is under way
  const Outcome rollback = Rollback();
  RunAll();
  EXPECT_EQ(Message(rollback), "ok");
  EXPECT_EQ(Get("a").weight(), 50u) << "it undoes the apply that came before it";
  EXPECT_EQ(Lines().back(), "4 rollback to 2 by alice");
}

TEST_F(RevisionsTest, NothingOvertakesARollback) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  const Outcome rollback = Rollback(1), apply = Apply(Ab(70));
  loop_.RunAll();
  EXPECT_EQ(Get("a").weight(), 50u) << "its revision is being read";
  RunAll();
  EXPECT_THAT(Lines(), ElementsAre("1 start by start", "2 apply by alice",
                                   "3 rollback to 1 by alice", "4 apply by alice"));
  EXPECT_EQ(Get("a").weight(), 70u);
  EXPECT_EQ(Message(rollback), "ok");
}

TEST_F(RevisionsTest, ARollbackThatTheDiskHoldsUpIsGivenUp) {
  StartWith(Ab(100));
  const Outcome rollback = Rollback(1), apply = Apply(Ab(70));
  loop_.RunAll();
  disk_.AdvanceLoop(absl::Seconds(9));
  loop_.RunAll();
  EXPECT_EQ(Message(rollback), "nothing yet");
  disk_.AdvanceLoop(absl::Seconds(2));
  loop_.RunAll();
  EXPECT_THAT(Message(rollback), HasSubstr("revision 1 could not be read within 10s"));
  EXPECT_EQ(Get("a").weight(), 70u);
  RunAll();
  EXPECT_EQ(Get("a").weight(), 70u) << "and does not come later";
  EXPECT_EQ(Lines().size(), 2u);
  EXPECT_EQ(Message(Rollback(1)), "nothing yet");
  RunAll();
  EXPECT_EQ(Get("a").weight(), 100u);
}

// --- What a plan and the answers say of overrides ------------------------------------------------

TEST_F(RevisionsTest, APlanNamesTheOverridesThatEnd) {
  StartWith(Ab(100));
  Drain("a");
  Weight("b", 7);
  RunAll();
  const std::string without_a = ConfigText(ServiceText("web", 1, kOnlyB));
  api::Plan plan;
  controller_->Plan({"new.yaml", without_a}, Into(&plan));
  RunAll();
  EXPECT_EQ(Text(plan.overrides_undone()), "drain web/a");
  EXPECT_THAT(plan.warnings(),
              ElementsAre("done by hand and dropped, for the configuration has no such backend: "
                          "drain web/a"));
  controller_->Plan({"new.yaml", Ab(100), true}, Into(&plan));
  RunAll();
  EXPECT_EQ(Text(plan.overrides_undone()), "drain web/a, weight web/b 7");
  EXPECT_THAT(plan.warnings(), IsEmpty()) << "somebody wants that";
  EXPECT_TRUE(plan.changes());
  EXPECT_GT(plan.moved(), 0.5);
  EXPECT_EQ(LastOverrides(), "drain web/a, weight web/b 7") << "a plan changes nothing";

  api::ApplyResult result;
  controller_->Apply({.name = "new.yaml", .text = without_a, .who = "alice"}, Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), ElementsAre(HasSubstr("no such backend: drain web/a")));
  EXPECT_EQ(Text(result.plan().overrides_undone()), "drain web/a");
  controller_->Rollback(3, "alice", Into(&result));
  RunAll();
  EXPECT_EQ(Text(result.plan().overrides_restored()), "drain web/a");
  EXPECT_EQ(Text(result.plan().overrides_undone()), "");
  controller_->Rollback(1, "alice", Into(&result));
  RunAll();
  EXPECT_EQ(Text(result.plan().overrides_undone()), "drain web/a, weight web/b 7");
}

// From then on the file counts: its next weight is not hidden by one of long ago.
TEST_F(RevisionsTest, AWeightByHandEndsWhenTheFileHasIt) {
  StartWith(Ab(100));
  Weight("a", 50);
  Drain("a");
  RunAll();
  api::Plan plan;
  controller_->Plan({"new.yaml", Ab(50)}, Into(&plan));
  RunAll();
  EXPECT_EQ(Text(plan.overrides_undone()), "weight web/a 50");
  EXPECT_EQ(plan.moved(), 0);
  api::ApplyResult result;
  controller_->Apply({.name = "new.yaml", .text = Ab(50), .who = "alice"}, Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), ElementsAre(HasSubstr("has the same weight: weight web/a 50"),
                                             HasSubstr("drained by hand, whatever")));
  EXPECT_THAT(Events(), HasSubstr("has the same weight: weight web/a 50"));
  EXPECT_EQ(LastOverrides(), "drain web/a");
  Apply(Ab(80));
  RunAll();
  EXPECT_EQ(Get("a").weight(), 80u);
}

TEST_F(RevisionsTest, ADrainByHandHoldsBesideTheFiles) {
  StartWith(Ab(100));
  Drain("b");
  RunAll();
  EXPECT_FALSE(controller_->GetStatus().overrides(0).file_drains());
  Apply(ConfigText(ServiceText("web", 1, "{ name: b, address: 10.0.0.2, state: drain }")));
  RunAll();
  EXPECT_TRUE(controller_->GetStatus().overrides(0).file_drains());
  Apply(Ab(100));
  RunAll();
  EXPECT_EQ(Get("b").state(), "drain") << "until somebody says otherwise";
}

TEST_F(RevisionsTest, AnApplyTellsTheWarningsThatAreNew) {
  StartWith(Ab(100));
  const std::string nobody =
      ConfigText(ServiceText("web", 1, kOnlyB) + ServiceText("empty", 2, ""));
  api::ApplyResult result;
  controller_->Apply({.name = "new.yaml", .text = nobody, .who = "alice"}, Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), ElementsAre(HasSubstr("every packet to the service is dropped")));
  controller_->Apply({.name = "n.yaml", .text = "# more\n" + nobody, .who = "alice"},
                     Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), IsEmpty()) << "known since the last one";
  EXPECT_EQ(controller_->GetStatus().warnings_size(), 1);
  api::Plan plan;
  controller_->Plan({"n.yaml", nobody}, Into(&plan));
  RunAll();
  EXPECT_EQ(plan.warnings_size(), 1) << "a plan tells all";
}

TEST_F(RevisionsTest, ARollbackCanBePlannedAndBounded) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  Drain("a");
  RunAll();
  api::Plan plan, other;
  controller_->PlanRollback(std::nullopt, Into(&plan));
  controller_->PlanRollback(3, Into(&other));
  RunAll();
  EXPECT_EQ(plan.rolled_back_to(), 1u);
  ASSERT_EQ(plan.services_size(), 1);
  EXPECT_GT(plan.moved(), 0.1);
  EXPECT_EQ(Text(plan.overrides_undone()), "drain web/a");
  EXPECT_FALSE(other.changes());
  EXPECT_EQ(Lines().size(), 3u) << "nothing has changed";
  absl::Status why;
  controller_->PlanRollback(9, [&](const auto& result) { why = result.status(); });
  RunAll();
  EXPECT_EQ(why.message(), "there is no revision 9; there are 1 to 3");

  const Outcome refused = NewOutcome(), done = NewOutcome();
  controller_->Rollback(
      1, "alice", [&](const auto& result) { *refused = result.status(); }, 0.01);
  RunAll();
  EXPECT_THAT(Message(refused), StartsWith("revision 1 is not put in force: "));
  EXPECT_EQ(LastOverrides(), "drain web/a") << "all or nothing";
  EXPECT_EQ(controller_->GetStatus().config_error(), "") << "nothing is wrong";
  controller_->Rollback(
      1, "alice", [&](const auto& result) { *done = result.status(); }, plan.moved() + 0.001);
  RunAll();
  EXPECT_EQ(Message(done), "ok");
  EXPECT_EQ(LastOverrides(), "");
}

TEST_F(RevisionsTest, WhereThereIsNothingToGoBackToItSaysSo) {
  StartWith(Ab(100));
  Drain("a");
  RunAll();
  const Outcome none = Rollback(), unknown = Rollback(99);
  RunAll();
  EXPECT_THAT(Message(none), HasSubstr("there is no revision before with another configuration"));
  EXPECT_EQ(Message(unknown), "there is no revision 99; there are 1 to 2");
  EXPECT_EQ((*unknown)->code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Lines().size(), 2u);
}

TEST_F(RevisionsTest, RollbackGoesByWhatNamedFilesHeldThen) {
  const std::string text = "access: { deny_files: [deny.txt] }\n" + Ab(100);
  std::ofstream(directory_ + "/deny.txt") << "192.0.2.0/24\n";
  StartWith(text);
  std::ofstream(directory_ + "/deny.txt") << "203.0.113.0/24\n";
  controller_->Reload();
  RunAll();
  const auto denied = [&](const char* address) {
    return dataplane_.snapshot().IsDenied(IpAddress::Parse(address).value()) ? "denied" : "allowed";
  };
  EXPECT_STREQ(denied("203.0.113.1"), "denied");
  Rollback();
  RunAll();
  EXPECT_STREQ(denied("203.0.113.1"), "allowed");
  EXPECT_STREQ(denied("192.0.2.1"), "denied");
}

TEST_F(RevisionsTest, ARollbackOfWhatIsFixedIsRefused) {
  StartWith(Ab(100));
  Crash();
  StartWith(Ab(100) + "dataplane: { idle: poll }\n");
  const Outcome outcome = Rollback();
  RunAll();
  EXPECT_THAT(Message(outcome), StartsWith("revision 1: dataplane.idle cannot change while "
                                           "guidewayd runs: put `guideway history 1` into "));
  EXPECT_EQ(Lines().size(), 2u);
}

// Each of those that were put off comes before the change that is read meanwhile.
TEST_F(RevisionsTest, WhatIsAskedBetweenTwoDiscardsIsUndoneByTheSecond) {
  StartWith(Ab(100));
  Apply(Ab(70), true);
  loop_.RunHelper();  // it is read; its Compile waits
  Drain("a");
  Drain("b");
  Apply(Ab(60), true);
  loop_.BeginHelper(1);  // is read before that
  loop_.EndHelper();
  RunAll();
  EXPECT_EQ(LastOverrides(), "");
  EXPECT_EQ(Get("a").state(), "up");
  EXPECT_EQ(Get("b").state(), "up");
}

TEST_F(RevisionsTest, TheTextOfARevision) {
  StartWith(Ab(100));
  Apply(Ab(50));
  RunAll();
  absl::StatusOr<api::RevisionText> text = absl::UnknownError("");
  controller_->GetRevision(1, [&](const auto& answer) { text = answer; });
  EXPECT_FALSE(text.ok());
  RunAll();
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(text->text(), Ab(100));
  EXPECT_EQ(text->revision().how(), "start");
  controller_->GetRevision(9, [&](const auto& answer) { text = answer; });
  RunAll();
  EXPECT_EQ(text.status().message(), "there is no revision 9; there are 1 to 2");
}

// --- A disk that does not do as it should --------------------------------------------------------

TEST_F(RevisionsTest, WithoutADiskItTakesEffectAllTheSame) {
  StartWith(Ab(100));
  std::filesystem::remove_all(directory_ + "/state");
  std::ofstream(directory_ + "/state") << "in the way";
  const Outcome outcome = Apply(Ab(50));
  RunAll();
  EXPECT_EQ(Message(outcome), "ok");
  EXPECT_EQ(Get("a").weight(), 50u);
  const api::Status status = controller_->GetStatus();
  EXPECT_THAT(status.warnings(), IsEmpty()) << "they are about the configuration";
  EXPECT_FALSE(status.history().kept());
  EXPECT_THAT(status.history().directory(), HasSubstr(directory_ + "/state/"));
  EXPECT_THAT(status.history().not_kept_since(), testing::StartsWith("20"));
  EXPECT_EQ(status.history().not_kept_why(),
            absl::StrCat("Not a directory (cannot make ", directory_, "/state)"));
  EXPECT_THAT(status.events().rbegin()->text(), HasSubstr("revision 2 is in force and not kept"));
}

TEST_F(RevisionsTest, WhoeverChangesSomethingIsToldThatItIsNotKept) {
  StartWith(Ab(100));
  api::Done done;
  controller_->Drain({"web", "a", "bob"}, Into(&done));
  RunAll();
  EXPECT_EQ(done.warnings_size(), 0);
  std::filesystem::remove_all(directory_ + "/state");
  std::ofstream(directory_ + "/state") << "in the way";
  EXPECT_TRUE(controller_->GetMetrics().history_kept);
  const auto not_kept = ElementsAre(HasSubstr("is in force and not kept"));
  controller_->Undrain({"web", "a", "bob"}, Into(&done));
  RunAll();
  EXPECT_TRUE(done.changed());
  EXPECT_THAT(done.warnings(), not_kept);
  EXPECT_FALSE(controller_->GetMetrics().history_kept);
  controller_->Undrain({"web", "a", "bob"}, Into(&done));
  RunAll();
  EXPECT_FALSE(done.changed());
  EXPECT_THAT(done.warnings(), not_kept) << "what is so already is not kept either";
  api::ApplyResult result;
  controller_->Apply({"new.yaml", Ab(50), "alice"}, Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), not_kept);
  std::filesystem::remove_all(directory_ + "/state");
  controller_->Apply({"new.yaml", Ab(60), "alice"}, Into(&result));
  RunAll();
  EXPECT_THAT(result.warnings(), IsEmpty());
  EXPECT_TRUE(controller_->GetMetrics().history_kept);
}

TEST_F(RevisionsTest, ADiskThatHangsHoldsUpNoAnswerForEver) {
  StartWith(Ab(100));
  api::Done done;
  api::ApplyResult applied;
  controller_->Drain({"web", "a", "bob"}, Into(&done));
  controller_->Apply({"new.yaml", Ab(50), "alice"}, Into(&applied));
  loop_.RunAll();
  disk_.AdvanceLoop(absl::Seconds(10));
  EXPECT_FALSE(done.changed()) << "nothing yet";
  loop_.RunAll();
  EXPECT_TRUE(done.changed());
  const auto not_kept = ElementsAre(HasSubstr("is in force and not kept yet: the disk has not"));
  EXPECT_THAT(done.warnings(), not_kept);
  EXPECT_THAT(applied.warnings(),
              ElementsAre(HasSubstr("drained by hand, whatever"),
                          HasSubstr("is in force and not kept yet: the disk has not")));
  EXPECT_FALSE(controller_->GetMetrics().history_kept);
  const api::HistoryState state = controller_->GetStatus().history();
  EXPECT_FALSE(state.kept());
  EXPECT_EQ(state.not_kept_why(), "the disk has not answered for 10s");
  RunAll();
  EXPECT_TRUE(controller_->GetStatus().history().kept());
  EXPECT_TRUE(controller_->GetMetrics().history_kept) << "the disk answers again";
}

// Nothing has been written late as yet, and all the same nobody knows when it will be there.
TEST_F(RevisionsTest, BehindAReadThatHangsNothingCountsAsKept) {
  StartWith(Ab(100));
  controller_->GetRevision(1, [](const absl::StatusOr<api::RevisionText>&) {});
  disk_.AdvanceLoop(absl::Seconds(5));
  api::Done done, again;
  controller_->Drain({"web", "a", "bob"}, Into(&done));
  loop_.RunAll();
  disk_.AdvanceLoop(absl::Seconds(5));
  controller_->Drain({"web", "a", "eve"}, Into(&again));
  loop_.RunAll();
  EXPECT_THAT(again.warnings(), ElementsAre(HasSubstr("is in force and not kept yet")));
  EXPECT_FALSE(controller_->GetMetrics().history_kept);
  RunAll();
  EXPECT_TRUE(controller_->GetMetrics().history_kept);
}

TEST_F(RevisionsTest, CanBeDestroyedWhileTheDiskIsAtWork) {
  StartWith(Ab(100));
  const Outcome outcome = Apply(Ab(50));
  loop_.RunAll();
  Crash();
  RunAll();
  EXPECT_EQ(Message(outcome), "nothing yet");
}

TEST_F(RevisionsTest, WithoutAHistoryNumbersCountFromOne) {
  WriteFile(Ab(100));
  controller_.emplace(&loop_, &prober_, &dataplane_,
                      Controller::Options{.config_file = file_, .version = "test"},
                      LoadText(Ab(100)));
  ASSERT_EQ(controller_->Start(), absl::OkStatus());
  Apply(Ab(50));
  RunAll();
  EXPECT_EQ(controller_->GetStatus().revision(), 2u);
  const Outcome outcome = Rollback(1);
  RunAll();
  EXPECT_THAT(Message(outcome), HasSubstr("not kept by this daemon"));
}

}  // namespace
}  // namespace guideway
