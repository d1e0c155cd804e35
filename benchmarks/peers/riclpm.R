# Time lavaan on a bivariate RI-CLPM with lags equal over sessions, default output.
# Usage: Rscript riclpm.R WIDE.csv SESSIONS LAGS(equal|free) ; prints one line of JSON.
suppressMessages(library(lavaan))
arguments <- commandArgs(TRUE)
wide <- read.csv(arguments[1])
sessions <- as.integer(arguments[2])
free <- arguments[3] == "free"

line <- function(...) paste0(..., collapse = "\n")
s <- seq_len(sessions)
into <- s[-1]
at <- if (free) paste0("_", into) else ""
model <- c(
  line("wa", s, " =~ 1*a", s), line("ws", s, " =~ 1*s", s),
  line("a", s, " ~~ 0*a", s), line("s", s, " ~~ 0*s", s),
  line("a", s, " ~ 1"), line("s", s, " ~ 1"),
  paste0("ka =~ ", paste0("1*a", s, collapse = " + ")),
  paste0("ks =~ ", paste0("1*s", s, collapse = " + ")),
  "ka ~~ ka", "ks ~~ ks", "ka ~~ ks", "ka + ks ~~ 0*wa1 + 0*ws1",
  line("wa", into, " ~ aa", at, "*wa", into - 1, " + as", at, "*ws", into - 1),
  line("ws", into, " ~ sa", at, "*wa", into - 1, " + ss", at, "*ws", into - 1),
  "wa1 ~~ wa1", "ws1 ~~ ws1", "wa1 ~~ ws1",
  line("wa", into, " ~~ qa", at, "*wa", into),
  line("ws", into, " ~~ qs", at, "*ws", into),
  line("wa", into, " ~~ q", at, "*ws", into)
)
clock <- proc.time()[["elapsed"]]
fit <- lavaan(paste(model, collapse = "\n"), wide, missing = "fiml", meanstructure = TRUE,
              information = "observed")
seconds <- proc.time()[["elapsed"]] - clock
table <- parameterEstimates(fit, ci = FALSE)
cross <- table[table$lhs == "ws2" & table$op == "~" & table$rhs == "wa1", ]
cat(sprintf('{"seconds": %.4f, "loglik": %.9f, "phi": %.9f, "se": %.9f, "version": "%s"}\n',
            seconds, as.numeric(logLik(fit)), cross$est, cross$se,
            as.character(packageVersion("lavaan"))))
