// One question to a running guidewayd over its control socket, and the answer.
//
// Blocks; for a program that does one thing and ends. Every wait is bounded: all of a call takes
// no longer than about twice the patience it was given.
#ifndef GUIDEWAY_TOOLS_API_CLIENT_H_
#define GUIDEWAY_TOOLS_API_CLIENT_H_

#include <google/protobuf/message.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace guideway {

class ApiClient {
 public:
  // The patience is long enough for a configuration at the bounds of what is allowed.
  explicit ApiClient(std::string socket_path, absl::Duration patience = absl::Minutes(2))
      : socket_path_(std::move(socket_path)), patience_(patience) {}

  // Each fills `answer`, or tells in sentences for people: what the daemon said when it refused
  // (FailedPrecondition), or why it cannot be reached and what to try (Unavailable).
  absl::Status Get(const std::string& path, google::protobuf::Message* answer);
  absl::Status Post(const std::string& path, const google::protobuf::Message& body,
                    google::protobuf::Message* answer);
  // `file_name` is what errors in the text will be told of.
  absl::Status PostFile(const std::string& path, const std::string& file_name, std::string text,
                        google::protobuf::Message* answer);

 private:
  absl::Status Call(const std::string& head, const std::string& body,
                    google::protobuf::Message* answer);

  const std::string socket_path_;
  const absl::Duration patience_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_API_CLIENT_H_
