package harness

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// StartSelf starts the test's own binary with a variable in its environment, which its TestMain looks for, and input as JSON on
// its stdin. The process prints the port that it listens on, which StartSelf returns.
func StartSelf(t *testing.T, variable, value string, input any) (*exec.Cmd, int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), variable+"="+value)
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		var port int
		if port, err = strconv.Atoi(strings.TrimSpace(line)); err == nil {
			return cmd, port
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	t.Fatalf("the process with %s says no port: %v", variable, err)
	return nil, 0
}
