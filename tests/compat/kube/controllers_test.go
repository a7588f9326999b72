package kube

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":3,
"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
"spec":{"containers":[{"name":"c","image":"example.org/none"}]}}}}`

// TestControllers lets a kube-controller-manager make the pods of a Deployment that
// kubectl has applied, scale them, and collect them again.
func TestControllers(t *testing.T) {
	store.NeedTools(t, store.Tool("kube-controller-manager"), store.Tool("kubectl"))
	process := store.MustStart(t, store.UnderTest(), "--watch-progress-notify-interval=5s")
	server := startAPIServer(t, process)
	directory := t.TempDir()
	configuration := filepath.Join(directory, "kubeconfig")
	writeFile(t, configuration, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:%d","insecure-skip-tls-verify":true}}],
"users":[{"name":"u","user":{"token":"%s"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`,
		server.port, token))
	port, err := store.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	controllers := &program{
		path: store.Tool("kube-controller-manager"), logPath: filepath.Join(directory, "log"),
		arguments: []string{"--kubeconfig=" + configuration, "--leader-elect=false", "--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", port), "--cert-dir=" + filepath.Join(directory, "certs")},
	}
	if err := controllers.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		controllers.kill()
		if t.Failed() {
			t.Logf("the end of kube-controller-manager's log:\n%s", controllers.logTail())
		}
	})
	kubectl := func(input string, arguments ...string) string {
		t.Helper()
		command := exec.Command(store.Tool("kubectl"), append([]string{"--kubeconfig=" + configuration}, arguments...)...)
		command.Stdin = bytes.NewBufferString(input)
		command.Env = []string{"HOME=" + directory, "PATH=" + os.Getenv("PATH")}
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %v: %v\n%s", arguments, err, output)
		}
		return string(output)
	}
	pods := func(want int) {
		t.Helper()
		eventually(t, 2*time.Minute, fmt.Sprintf("%d pods exist", want), func() error {
			list := server.must(t, http.StatusOK, http.MethodGet, namespaces+"/default/pods?labelSelector=app%3Dweb", nil)
			if len(list.items()) != want {
				return fmt.Errorf("%d pods", len(list.items()))
			}
			return nil
		})
	}
	begin := time.Now()
	kubectl(deployment, "apply", "--server-side", "-f", "-")
	pods(3)
	t.Logf("the Deployment's pods exist after %v", time.Since(begin).Round(100*time.Millisecond))
	kubectl("", "scale", "deployment/web", "--replicas=7")
	pods(7)
	// The store dies under all of them; the controllers have to go on afterwards.
	process.Kill()
	if err := process.Restart(); err != nil {
		t.Fatal(err)
	}
	server.waitReady(t)
	kubectl("", "scale", "deployment/web", "--replicas=2")
	pods(2)
	t.Log(kubectl("", "get", "deployments,replicasets,pods", "-o", "name"))
	kubectl("", "delete", "deployment", "web", "--wait=false")
	pods(0)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
