# lme4 on the rows that benchmarks/mixed.py wrote: Rscript mixed.R FOLDER ROWS slope|therapist
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
rows <- as.integer(arguments[2])
column <- function(name, kind) readBin(file.path(arguments[1], name), kind, rows)
d <- data.frame(y = column("y", "double"), x = column("x", "double"), between = column("between", "double"),
                session = column("session", "double"), client = column("client", "integer"), therapist = column("therapist", "integer"))
formula <- if (arguments[3] == "slope") y ~ x + between + session + (1 + x | client) else y ~ x + between + session + (1 + x | client) + (1 | therapist)
clock <- proc.time()[["elapsed"]]
fit <- suppressMessages(suppressWarnings(lmer(formula, d, REML = TRUE)))
seconds <- proc.time()[["elapsed"]] - clock
cat(sprintf('{"seconds": %.4f, "loglik": %.10f, "beta": [%s], "se": [%s], "version": "%s"}\n', seconds, as.numeric(logLik(fit)),
            paste(sprintf("%.12g", fixef(fit)), collapse = ", "), paste(sprintf("%.12g", sqrt(diag(as.matrix(vcov(fit))))), collapse = ", "), packageVersion("lme4")))
