# Time plm on a two-step difference GMM, with Windmeijer's errors, Hansen's and the AR tests.
# Usage: Rscript gmm.R LONG.csv LAST_LAG EFFECT(individual|twoways) ; prints one line of JSON.
suppressMessages(library(plm))
arguments <- commandArgs(TRUE)
long <- pdata.frame(read.csv(arguments[1]), index = c("client", "session"))
last <- as.integer(arguments[2])
effect <- arguments[3]
formula <- as.formula(sprintf(
  "symptoms ~ lag(symptoms, 1) + lag(alliance, 1) | lag(symptoms, 2:%d) + lag(alliance, 2:%d)",
  last, last))
clock <- proc.time()[["elapsed"]]
fit <- pgmm(formula, long, effect = effect, model = "twosteps", transformation = "d")
V <- vcovHC(fit)
hansen <- sargan(fit, weights = "twosteps")
m1 <- mtest(fit, order = 1)
m2 <- mtest(fit, order = 2)
seconds <- proc.time()[["elapsed"]] - clock
estimates <- fit$coefficients[[2]]
cat(sprintf(paste0('{"seconds": %.4f, "phi": %.12f, "b": %.12f, "se": %.12f, "hansen": %.9f, ',
                   '"m1": %.9f, "m2": %.9f, "instruments": %d, "version": "%s"}\n'),
            seconds, estimates[[1]], estimates[[2]], sqrt(diag(V))[[2]],
            hansen$statistic[[1]], m1$statistic[[1]], m2$statistic[[1]], ncol(fit$W[[1]]),
            as.character(packageVersion("plm"))))
