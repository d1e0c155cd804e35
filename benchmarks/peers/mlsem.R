# Time lavaan on an ML-SEM: one equation, predetermined process, default output.
# Usage: Rscript mlsem.R WIDE.csv SESSIONS ; prints one line of JSON.
suppressMessages(library(lavaan))
arguments <- commandArgs(TRUE)
wide <- read.csv(arguments[1])
sessions <- as.integer(arguments[2])
line <- function(...) paste0(..., collapse = "\n")
into <- 2:sessions
given <- c("s1", paste0("a", 1:(sessions - 1)))
model <- c(
  paste0("k =~ ", paste0("1*s", into, collapse = " + ")), "k ~~ k", "k ~ 0*1",
  line("s", into, " ~ own*s", into - 1, " + cross*a", into - 1),
  line("s", into, " ~ 1"), line("s", into, " ~~ v*s", into),
  sapply(seq_along(given), function(i) paste0(given[i], " ~~ ", paste(given[i:length(given)], collapse = " + "))),
  line(given, " ~ 1"), paste0("k ~~ ", paste(given, collapse = " + ")),
  sapply(2:(sessions - 1), function(t) paste0("s", t, " ~~ ", paste0("a", t:(sessions - 1), collapse = " + ")))
)
clock <- proc.time()[["elapsed"]]
fit <- lavaan(paste(model, collapse = "\n"), wide, missing = if (anyNA(wide)) "fiml" else "listwise",
              meanstructure = TRUE, information = "observed", fixed.x = FALSE)
seconds <- proc.time()[["elapsed"]] - clock
table <- parameterEstimates(fit, ci = FALSE)
cross <- table[table$label == "cross", ][1, ]
cat(sprintf('{"seconds": %.4f, "loglik": %.9f, "phi": %.9f, "se": %.9f, "converged": %d, "version": "%s"}\n',
            seconds, as.numeric(logLik(fit)), cross$est, cross$se, as.integer(lavInspect(fit, "converged")),
            as.character(packageVersion("lavaan"))))
