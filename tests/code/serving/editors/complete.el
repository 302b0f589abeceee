;;; A user in Emacs: opens a file, connects with eglot, completes the word at the end.  -*- lexical-binding: t -*-
;; Environment: SETUP, a file that sets up the server; PORT of one that runs; FILE; TYPED; ANSWER,
;; the file to write.
(let ((default-directory "/usr/share/emacs/site-lisp/elpa-src/"))
  (normal-top-level-add-subdirs-to-load-path))
(load (getenv "SETUP") nil t t)
(require 'eglot)
(setq eglot-sync-connect 60
      eglot-autoshutdown nil)
(find-file (getenv "FILE"))
(let ((command (nth 2 (eglot--lookup-mode 'python-mode)))
      (server (eglot--connect
               '(python-mode) (cons 'transient (file-name-directory (getenv "FILE")))
               'eglot-lsp-server (list "127.0.0.1" (string-to-number (getenv "PORT"))) "python")))
  (eglot--maybe-activate-editing-mode)
  (goto-char (point-max))
  (insert (getenv "TYPED"))
  (completion-at-point)
  (let ((answer `((command . ,(vconcat command))
                  (line . ,(buffer-substring-no-properties (line-beginning-position) (point)))
                  (change . ,(eglot--server-capable :textDocumentSync :change)))))
    (with-temp-file (getenv "ANSWER") (insert (json-encode answer))))
  (set-buffer-modified-p nil)
  (eglot-shutdown server))
