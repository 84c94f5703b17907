package daemon

import (
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// The schemas of commands are written by hand; what they and the types say is the
// same.
func TestTheSchemasOfCommandsHaveTheirFields(t *testing.T) {
	t.Parallel()
	testenv.SameArguments(t, "snapshot", testenv.Schema(t, "command-snapshot.json"), reflect.TypeFor[snapshotArgs]())
	testenv.SameArguments(t, "rollback", testenv.Schema(t, "command-rollback.json"), reflect.TypeFor[rollBackArgs]())
	testenv.SameShape(t, "snapshot's result", testenv.Schema(t, "command-snapshot-reply.json").Properties["result"], reflect.TypeFor[Snapshot]())
	testenv.SameShape(t, "rollback's result", testenv.Schema(t, "command-rollback-reply.json").Properties["result"], reflect.TypeFor[RolledBack]())
}

func TestRepliesAreAsTheContractSays(t *testing.T) {
	t.Parallel()
	c := newCommander(t, nil)
	c.install(2)
	c.wait(2, release.Confirmed, "")
	for name, arguments := range map[string][]string{
		"snapshot": {`"camera":"bars"`, `"camera":"none"`},
		"rollback": {`"model":"lite0","release":"2"`, `"model":"lite0","release":9`},
	} {
		s := testenv.Schema(t, "command-"+name+"-reply.json")
		for i, a := range arguments {
			if r := c.send(name, a); r.OK != (i == 0) {
				t.Errorf("%s %s: code %s, %s", name, a, r.Code, r.Error)
			}
			raw := c.sub.last("sightd/box/command/" + name + "/reply")
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(value); err != nil {
				t.Errorf("%v\n%.500s", err, raw)
			}
		}
	}
}
