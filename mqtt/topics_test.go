package mqtt

import (
	"strings"
	"testing"
)

func TestTopics(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost", Prefix: "plant/sightd", Device: "dev1"}, quick())
	for _, tc := range []struct{ suffix, want string }{
		{TopicStatus, "plant/sightd/dev1/status"},
		{TopicHealth, "plant/sightd/dev1/health"},
		{TopicEvents("door"), "plant/sightd/dev1/door/events"},
		{TopicCameraStatus("door"), "plant/sightd/dev1/door/status"},
		{TopicClassification("door", "lite0"), "plant/sightd/dev1/door/classification/lite0"},
		{TopicAttributes("door", "lite0"), "plant/sightd/dev1/door/classification/lite0/attributes"},
		{TopicRelease("lite0"), "plant/sightd/dev1/releases/lite0"},
		{TopicCommand("snapshot"), "plant/sightd/dev1/command/snapshot"},
		{TopicReply("snapshot"), "plant/sightd/dev1/command/snapshot/reply"},
	} {
		if got := c.Topic(tc.suffix); got != tc.want {
			t.Errorf("topic is %s, want %s", got, tc.want)
		}
	}
}

func TestNamesThatCannotBeTopics(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                       "empty name",
		"a/b":                    "separates the levels",
		"a+":                     "wildcards",
		"#":                      "wildcards",
		"a\x00":                  "control characters",
		"a\n":                    "control characters",
		"a\xff":                  "not UTF-8",
		strings.Repeat("a", 257): "257 bytes",
	} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckName(%.20q) is %v, want an error with %q", name, err, want)
		}
	}
	for _, name := range []string{"status", "health", "inbox", "releases", "command"} {
		if err := CheckCamera(name); err == nil {
			t.Errorf("CheckCamera(%q) takes a topic of the device", name)
		}
	}
	for _, name := range []string{"door", "Türe 2", "a.b_c-d"} {
		if err := CheckCamera(name); err != nil {
			t.Errorf("CheckCamera(%q): %v", name, err)
		}
	}
	for _, prefix := range []string{"/a", "a/", "a//b", "$SYS", "a/+/b", strings.Repeat("a/", 200) + "a"} {
		if err := checkPrefix(prefix); err == nil {
			t.Errorf("checkPrefix(%.20q) is taken", prefix)
		}
	}
}
