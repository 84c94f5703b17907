package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Topics are written without PREFIX/DEVICE/, as [Client.SetState] takes them;
// [Client.Topic] gives the whole.
const (
	TopicStatus = "status" // retained, will: Online or Offline
	TopicHealth = "health" // retained: Health
	TopicInbox  = "inbox"  // retained: what became of the drops in the inbox of releases
)

// What status topics say.
const (
	Online  = "online"
	Stalled = "stalled" // of a camera: it gives no frames at the moment
	Offline = "offline"
)

// NoLabel is what a classification topic says when nothing reaches min_score.
const NoLabel = "none"

// TopicEvents takes a camera's events: QoS 1, not retained.
func TopicEvents(camera string) string { return camera + "/events" }

// TopicCameraStatus holds Online, Stalled or Offline, retained.
func TopicCameraStatus(camera string) string { return camera + "/status" }

// TopicClassification holds the current label as text, retained.
func TopicClassification(camera, model string) string {
	return camera + "/classification/" + model
}

// TopicAttributes holds what belongs to the current label: Attributes, retained.
func TopicAttributes(camera, model string) string {
	return TopicClassification(camera, model) + "/attributes"
}

// TopicRelease holds the state of a model's newest release: Release, retained.
func TopicRelease(model string) string { return "releases/" + model }

// TopicCommand is where a command is received.
func TopicCommand(name string) string { return "command/" + name }

// TopicReply is where a command's reply goes.
func TopicReply(name string) string { return TopicCommand(name) + "/reply" }

// defaultPrefix is the first part of all topics where no other is named.
const defaultPrefix = "sightd"

// rooted begins what stands for a whole topic where one without PREFIX/DEVICE/ is
// wanted: no other begins so, as its first level has a name.
const rooted = "/"

// maxName bounds a level of a topic, in bytes, so that no topic comes near the
// 65,535 bytes that MQTT allows.
const maxName = 256

// CheckName says whether name can be one level of a topic, as the device's, a
// camera's and a model's names are.
func CheckName(name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("name %q: / separates the levels of a topic; leave it out", name)
	}
	return checkLevel(name)
}

// CheckCamera is CheckName for a camera: it also refuses the names that stand
// beside the cameras' in the topics.
func CheckCamera(name string) error {
	switch name {
	case "status", "health", "inbox", "releases", "command":
		return fmt.Errorf("name %q: it is a topic of the device itself; give the camera another", name)
	}
	return CheckName(name)
}

// checkPrefix is CheckName for one or several levels.
func checkPrefix(prefix string) error {
	if strings.HasPrefix(prefix, "$") {
		return fmt.Errorf("%q: topics that start with $ belong to the broker: want another first character", prefix)
	}
	if len(prefix) > maxName {
		return fmt.Errorf("%d bytes: at most %d", len(prefix), maxName)
	}
	for level := range strings.SplitSeq(prefix, "/") {
		if err := checkLevel(level); err != nil {
			return fmt.Errorf("%q: %w", prefix, err)
		}
	}
	return nil
}

// checkTopic checks what SetState is given.
func checkTopic(topic string) error {
	topic = strings.TrimPrefix(topic, rooted)
	if len(topic) > 4*maxName {
		return fmt.Errorf("topic of %d bytes: at most %d", len(topic), 4*maxName)
	}
	for level := range strings.SplitSeq(topic, "/") {
		if err := checkLevel(level); err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
	}
	return nil
}

func checkLevel(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case len(name) > maxName:
		return fmt.Errorf("name of %d bytes: at most %d", len(name), maxName)
	case strings.ContainsAny(name, "+#"):
		return fmt.Errorf("name %q: + and # are wildcards of MQTT; leave them out", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q: not UTF-8", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("name %q: control characters can't be in a topic", name)
	}
	return nil
}
